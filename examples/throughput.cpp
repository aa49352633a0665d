// Runs one network on several threads: ./throughput network/net.weights [threads]
//
// Shows what threads share and what each must bring: weights are read once, an arena belongs to one call at a time.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "net.h"

namespace {

constexpr std::align_val_t alignment{NET_ALIGNMENT};

struct Free {
    void operator()(void *memory) const { ::operator delete(memory, alignment); }
};
using Memory = std::unique_ptr<void, Free>;

Memory allocate(std::size_t bytes) { return Memory(::operator new(bytes, alignment)); }

Memory read_weights(const std::string &path) {
    Memory weights = allocate(net_weights_bytes());
    std::ifstream file(path, std::ios::binary);
    const auto bytes = static_cast<std::streamsize>(net_weights_bytes());
    if (!file.read(static_cast<char *>(weights.get()), bytes))
        throw std::runtime_error("cannot read the weights in " + path);
    return weights;
}

// Classifies `count` times the same grey picture, and returns the last scores.
std::vector<float> classify(const void *weights, int count) {
    const std::vector<unsigned char> picture(net_input_bytes(0), 128);
    std::vector<float> scores(net_output_bytes(0) / sizeof(float));
    const Memory arena = allocate(net_arena_bytes());
    for (int i = 0; i < count; i++) net_run(weights, picture.data(), scores.data(), arena.get());
    return scores;
}

}  // namespace

int main(int argc, char **argv) try {
    if (argc < 2) throw std::runtime_error("usage: throughput net.weights [threads]");
    constexpr int count = 20;
    const Memory weights = read_weights(argv[1]);
    const auto threads = static_cast<std::size_t>(argc > 2 ? std::stoi(argv[2]) : 2);

    std::vector<std::vector<float>> scores(threads);
    std::vector<std::thread> running;
    const auto start = std::chrono::steady_clock::now();
    for (auto &result : scores)
        running.emplace_back([&] { result = classify(weights.get(), count); });
    for (auto &thread : running) thread.join();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;

    const auto total = static_cast<double>(threads * count);
    std::printf("%.0f pictures a second on %zu threads\n", total / seconds.count(), threads);
    const bool equal = std::all_of(scores.begin(), scores.end(),
                                   [&](const auto &each) { return each == scores[0]; });
    std::puts(equal ? "all threads found the same" : "the threads differ");
    return equal ? 0 : 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "throughput: %s\n", error.what());
    return 1;
}
