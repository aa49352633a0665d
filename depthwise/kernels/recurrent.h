/* A recurrent layer: the states of every step, each from those of the step before.

     u[g][j]    gates[t][n][g][j] + sum over p of h[p] * w[p][g][j]
     lstm       c = sigmoid(u1) c + sigmoid(u0) tanh(u2);   h = sigmoid(u3) tanh(c), times `project` if it projects
     gru        r, z = sigmoid(u0), sigmoid(u1);   v = tanh(gates2 + r (w2 h + bias));   h = v + z (h - v)
     gru, reset first: v = tanh(gates2 + w2 (r h)) instead;   rnn: h = tanh(u0) or relu(u0)

   steps, batch, hidden     t, n and j; `reverse` starts at the last step
   state                    P: the outputs h, as many as `hidden` but where `projects`
   gates                    [t][n][g][j], packed: what the input gives, biases added
   w, project               packed in panels (below): of all gates; of gru a panel of r and z, then one of the new state
   bias                     of gru: what is added to w2 h; others have none
   h, c                     the states to start from; h_row, c_row floats between those of the batch
   work                     scratch: batch * (G + 1) * hidden floats, for G gates
   y                        [t][n][P], of an lstm [t][n][P + hidden]: h, then c

   A panel multiplies vectors of `inner` elements to `outs`. It is cut into blocks of up to 4 vectors of outputs, the
   last one padded with zeros, [block][p][k]. The 4 hide the latency of their sums, and two vectors at a time, of
   neighbours of the batch, share what is loaded. */

#include "activation.h"

enum { RECURRENT_LSTM, RECURRENT_GRU, RECURRENT_GRU_RESET_FIRST, RECURRENT_RNN_TANH, RECURRENT_RNN_RELU };

struct recurrent { int function, steps, batch, hidden, state, projects, reverse, h_row, c_row; };

INLINE int recurrent_gates(const int function) {
    return function == RECURRENT_LSTM ? 4 : function >= RECURRENT_RNN_TANH ? 1 : 3;
}
INLINE int panel_floats(const int inner, const int outs) { return (outs + VL - 1) / VL * VL * inner; }

/* one output of a panel */
INLINE float panel_sum(const int inner, const int outs, const int k, const float *x, const float *w, float sum) {
    const int padded = (outs + VL - 1) / VL * VL, first = k / (4 * VL) * 4 * VL;
    const int wide = padded - first < 4 * VL ? padded - first : 4 * VL;
    for (int p = 0; p < inner; p++) sum += x[p] * w[(size_t)first * inner + (size_t)p * wide + (k - first)];
    return sum;
}

INLINE float recurrent_tanh(const int function, const float x) {
    return function == RECURRENT_RNN_RELU ? act((struct act){.kind = ACT_RELU}, x) : tanhf(x);
}

INLINE void f32_recurrent_naive(
    const struct recurrent *a, const float *gates, const float *w, const float *bias, const float *project,
    const float *h, const float *c, float *work, float *y) {
    const int H = a->hidden, P = a->state, f = a->function, G = recurrent_gates(f);
    const int lstm = f == RECURRENT_LSTM, gru = !lstm && G == 3, row = P + (lstm ? H : 0);
    const float *w2 = w + panel_floats(P, 2 * H);
    for (int i = 0; i < a->steps; i++)
    for (int n = 0; n < a->batch; n++) {
        const int t = a->reverse ? a->steps - 1 - i : i, before = a->reverse ? t + 1 : t - 1;
        const float *hp = i ? y + ((size_t)before * a->batch + n) * row : h + (size_t)n * a->h_row;
        const float *cp = i ? hp + P : c + (size_t)n * a->c_row, *g = gates + ((size_t)t * a->batch + n) * G * H;
        float *out = y + ((size_t)t * a->batch + n) * row, *u = work, *m = work + G * H;
        for (int k = 0; k < (gru ? 2 : G) * H; k++) u[k] = panel_sum(P, (gru ? 2 : G) * H, k, hp, w, g[k]);
        for (int j = 0; j < H; j++)
            if (lstm) {
                out[P + j] = sigmoid(u[H + j]) * cp[j] + sigmoid(u[j]) * tanhf(u[2 * H + j]);
                m[j] = sigmoid(u[3 * H + j]) * tanhf(out[P + j]);
            } else if (gru) m[j] = sigmoid(u[j]) * hp[j];
            else out[j] = recurrent_tanh(f, u[j]);
        for (int k = 0; k < P && lstm; k++) out[k] = a->projects ? panel_sum(H, P, k, m, project, 0) : m[k];
        for (int j = 0; j < H && gru; j++) {
            const float taken = f == RECURRENT_GRU ? sigmoid(u[j]) * panel_sum(P, H, j, hp, w2, bias[j])
                                                   : panel_sum(P, H, j, m, w2, 0);
            const float v = tanhf(g[2 * H + j] + taken);
            out[j] = v + sigmoid(u[H + j]) * (hp[j] - v);
        }
    }
}

/* `rows` vectors x times a block of `vectors` vectors of outputs, the last of `lanes`, plus `add` if there is one */
INLINE void panel_block(
    const int rows, const int vectors, const int lanes, const int inner, const float *x, const int x_row,
    const float *w, const float *add, const int add_row, float *y, const int y_row) {
    vf sum[2][4];
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            sum[r][v] = add ? load_part(add + (size_t)r * add_row + v * VL, v == vectors - 1 ? lanes : VL) : (vf){0};
    for (int p = 0; p < inner; p++)
        UNROLL for (int v = 0; v < vectors; v++) {
            const vf weight = load(w + ((size_t)p * vectors + v) * VL);
            UNROLL for (int r = 0; r < rows; r++) sum[r][v] += weight * x[(size_t)r * x_row + p];
        }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < vectors; v++)
            store_part(y + (size_t)r * y_row + v * VL, sum[r][v], v == vectors - 1 ? lanes : VL);
}

INLINE void panel_rows(
    const int rows, const int inner, const int outs, const float *x, const int x_row, const float *w, const float *add,
    const int add_row, float *y, const int y_row) {
    const int rest = outs % (4 * VL), whole = outs - rest, last = (rest + VL - 1) / VL;
    for (int k = 0; k < whole; k += 4 * VL)
        panel_block(rows, 4, VL, inner, x, x_row, w + (size_t)k * inner, add ? add + k : 0, add_row, y + k, y_row);
    if (rest)
        panel_block(rows, last, rest - (last - 1) * VL, inner, x, x_row, w + (size_t)whole * inner,
                    add ? add + whole : 0, add_row, y + whole, y_row);
}

/* y[n] = add[n] + panel x[n], for all of a batch */
INLINE void f32_panel(
    const int batch, const int inner, const int outs, const float *x, const int x_row, const float *w, const float *add,
    const int add_row, float *y, const int y_row) {
    int n = 0;
    for (; n + 2 <= batch; n += 2)
        panel_rows(2, inner, outs, x + (size_t)n * x_row, x_row, w, add ? add + (size_t)n * add_row : 0, add_row,
                   y + (size_t)n * y_row, y_row);
    if (n < batch)
        panel_rows(1, inner, outs, x + (size_t)n * x_row, x_row, w, add ? add + (size_t)n * add_row : 0, add_row,
                   y + (size_t)n * y_row, y_row);
}

/* `lanes` elements of an lstm's cell; `out` is what it gives before any projection */
INLINE void lstm_vector(const int H, const int lanes, const float *u, const float *cp, float *c, float *out) {
    const vf input = vsigmoid(load_part(u, lanes)), forget = vsigmoid(load_part(u + H, lanes));
    const vf cell = forget * load_part(cp, lanes) + input * vtanh(load_part(u + 2 * H, lanes));
    store_part(c, cell, lanes);
    store_part(out, vsigmoid(load_part(u + 3 * H, lanes)) * vtanh(cell), lanes);
}

/* `lanes` elements of a gru's reset state, r h */
INLINE void reset_vector(const int lanes, const float *u, const float *hp, float *out) {
    store_part(out, vsigmoid(load_part(u, lanes)) * load_part(hp, lanes), lanes);
}

/* `lanes` elements of a gru's new state; `taken` is what it takes of the old one, times r if that is not done */
INLINE void gru_vector(
    const int H, const int lanes, const int reset, const float *u, const float *given, const float *taken,
    const float *hp, float *out) {
    vf of_state = load_part(taken, lanes);
    if (reset) of_state *= vsigmoid(load_part(u, lanes));
    const vf v = vtanh(load_part(given, lanes) + of_state);
    store_part(out, v + vsigmoid(load_part(u + H, lanes)) * (load_part(hp, lanes) - v), lanes);
}

INLINE void rnn_vector(const int function, const int lanes, const float *u, float *out) {
    const vf v = load_part(u, lanes);
    store_part(out, function == RECURRENT_RNN_RELU ? at_least(v, 0) : vtanh(v), lanes);
}

/* one element of the batch, from its sums u: the new state of an lstm or rnn, or a gru's reset one */
INLINE void recurrent_state(
    const int function, const int H, const float *u, const float *before, float *cell, float *out) {
    const int tail = H % VL, whole = H - tail;
    for (int j = 0; j < whole; j += VL)
        if (function == RECURRENT_LSTM) lstm_vector(H, VL, u + j, before + j, cell + j, out + j);
        else if (function >= RECURRENT_RNN_TANH) rnn_vector(function, VL, u + j, out + j);
        else reset_vector(VL, u + j, before + j, out + j);
    if (!tail) return;
    if (function == RECURRENT_LSTM) lstm_vector(H, tail, u + whole, before + whole, cell + whole, out + whole);
    else if (function >= RECURRENT_RNN_TANH) rnn_vector(function, tail, u + whole, out + whole);
    else reset_vector(tail, u + whole, before + whole, out + whole);
}

INLINE void gru_state(
    const int function, const int H, const float *u, const float *given, const float *taken, const float *hp,
    float *out) {
    const int tail = H % VL, whole = H - tail, reset = function == RECURRENT_GRU;
    for (int j = 0; j < whole; j += VL) gru_vector(H, VL, reset, u + j, given + j, taken + j, hp + j, out + j);
    if (tail) gru_vector(H, tail, reset, u + whole, given + whole, taken + whole, hp + whole, out + whole);
}

/* one step of a whole batch: from the states hp and cp to those at out */
INLINE void f32_recurrent_step(
    const struct recurrent *a, const float *gates, const float *w, const float *bias, const float *project,
    const float *hp, const int h_row, const float *cp, const int c_row, float *work, float *out) {
    const int H = a->hidden, P = a->state, f = a->function, G = recurrent_gates(f), N = a->batch;
    const int lstm = f == RECURRENT_LSTM, gru = !lstm && G == 3, row = P + (lstm ? H : 0), line = G * H;
    float *between = work + (size_t)N * line; /* [n][j] */
    f32_panel(N, P, (gru ? 2 : G) * H, hp, h_row, w, gates, line, work, line);
    for (int n = 0; n < N; n++) {
        float *state = out + (size_t)n * row, *given = gru || a->projects ? between + (size_t)n * H : state;
        if (f != RECURRENT_GRU)
            recurrent_state(f, H, work + (size_t)n * line, lstm ? cp + (size_t)n * c_row : hp + (size_t)n * h_row,
                            state + P, given);
    }
    if (a->projects) f32_panel(N, H, P, between, H, project, 0, 0, out, row);
    if (!gru) return;
    const float *w2 = w + panel_floats(P, 2 * H);
    if (f == RECURRENT_GRU) f32_panel(N, P, H, hp, h_row, w2, bias, 0, between, H);
    else f32_panel(N, P, H, between, H, w2, 0, 0, work + 2 * H, line);
    for (int n = 0; n < N; n++)
        gru_state(f, H, work + (size_t)n * line, gates + (size_t)n * line + 2 * H,
                  f == RECURRENT_GRU ? between + (size_t)n * H : work + (size_t)n * line + 2 * H,
                  hp + (size_t)n * h_row, out + (size_t)n * row);
}

INLINE void f32_recurrent(
    const struct recurrent *a, const float *gates, const float *w, const float *bias, const float *project,
    const float *h, const float *c, float *work, float *y) {
    const int lstm = a->function == RECURRENT_LSTM, row = a->state + (lstm ? a->hidden : 0);
    const size_t step = (size_t)a->batch * row, given = (size_t)a->batch * recurrent_gates(a->function) * a->hidden;
    const float *hp = h, *cp = c;
    for (int i = 0; i < a->steps; i++) {
        const int t = a->reverse ? a->steps - 1 - i : i;
        float *out = y + t * step;
        f32_recurrent_step(a, gates + t * given, w, bias, project, hp, i ? row : a->h_row, cp, i ? row : a->c_row,
                           work, out);
        hp = out;
        cp = lstm ? out + a->state : 0;
    }
}
