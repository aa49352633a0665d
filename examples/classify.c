/* Names what is in a picture: ./classify network/net.weights photo.ppm

   Shows how C calls a compiled network: two blocks of memory, one function. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "net.h"

static const size_t pixels[] = NET_INPUT_BYTES, classes[] = NET_OUTPUT_FLOATS;

static void fail(const char *what, const char *name) {
    fprintf(stderr, "classify: %s %s\n", what, name);
    exit(1);
}

/* Weights and arena start at multiples of NET_ALIGNMENT. */
static void *allocate(size_t bytes) {
    size_t whole = (bytes + NET_ALIGNMENT - 1) / NET_ALIGNMENT * NET_ALIGNMENT;
    void *memory = aligned_alloc(NET_ALIGNMENT, whole);
    if (!memory) fail("no memory for", "the network");
    return memory;
}

static void read_rest(FILE *file, const char *path, void *to, size_t bytes) {
    if (fread(to, 1, bytes, file) != bytes || fgetc(file) != EOF) fail("wrong length:", path);
    fclose(file);
}

static FILE *open_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) fail("cannot open", path);
    return file;
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage:", "classify net.weights picture.ppm");
    void *weights = allocate(net_weights_bytes()), *arena = allocate(net_arena_bytes());
    read_rest(open_file(argv[1]), argv[1], weights, net_weights_bytes());

    int width, height, largest;
    FILE *file = open_file(argv[2]);
    if (fscanf(file, "P6 %d %d %d%*c", &width, &height, &largest) != 3 || largest != 255)
        fail("not a binary PPM of 8 bits:", argv[2]);
    unsigned char *picture = allocate(pixels[0]);
    read_rest(file, argv[2], picture, pixels[0]); /* as many bytes as the network takes */

    float *scores = allocate(classes[0] * sizeof *scores);
    if (net_run(weights, picture, scores, arena)) fail("the network", "failed");

    size_t best = 0;
    for (size_t k = 1; k < classes[0]; k++)
        if (scores[k] > scores[best]) best = k;
    double sum = 0;
    for (size_t k = 0; k < classes[0]; k++) sum += exp(scores[k] - scores[best]);
    printf("%.3f  class %zu\n", 1 / sum, best);
    free(scores), free(picture), free(arena), free(weights);
    return 0;
}
