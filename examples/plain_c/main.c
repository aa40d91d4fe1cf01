// Computes every case of a folder of vectors whose op is in kernels.c: plain DIR OUT writes OUT/<id>.bin.
#include "kernels.h"
#include "vectors.h"

#include <stdlib.h>
#include <string.h>

static const float *floats(const Case *c, const char *name) {
    const Array *a = find_array(c, name);
    return a ? a->data : NULL;
}

static Window window(const Case *c) {
    const Array *x = find_array(c, "x"), *out = find_array(c, "out"), *weight = find_array(c, "weight");
    Window v = {.n = x->size[0], .h_in = x->size[1], .w_in = x->size[2], .c_in = x->size[3]};
    for (int i = 0; i < 2; i++) {
        v.stride[i] = int_attr(c, "stride", i, 1);
        v.dilation[i] = int_attr(c, "dilation", i, 1);
    }
    for (int i = 0; i < 4; i++) v.padding[i] = int_attr(c, "padding", i, 0);
    v.groups = int_attr(c, "groups", 0, 1);
    v.k_h = weight ? weight->size[0] : int_attr(c, "kernel", 0, 1);
    v.k_w = weight ? weight->size[1] : int_attr(c, "kernel", 1, 1);
    v.c_out = out->size[out->ndim - 1];
    if (weight) {  // the output may be a list of sites: the size of its map follows from the window
        v.h_out = (v.h_in + v.padding[0] + v.padding[1] - v.dilation[0] * (v.k_h - 1) - 1) / v.stride[0] + 1;
        v.w_out = (v.w_in + v.padding[2] + v.padding[3] - v.dilation[1] * (v.k_w - 1) - 1) / v.stride[1] + 1;
    } else {
        v.h_out = out->size[1];
        v.w_out = out->size[2];
    }
    return v;
}

static void run_conv2d(const Case *c, void *out) {
    const Array *sites = find_array(c, "sites");
    Epilogue e = {floats(c, "scale"), floats(c, "shift"), floats(c, "bias"), floats(c, "residual"),
                  int_attr(c, "relu", 0, 0)};
    Sites at = {0};
    if (sites) at = (Sites){sites->data, (int)sites->count, find_array(c, "out")->ndim == 2};
    conv2d(window(c), floats(c, "x"), floats(c, "weight"), e, at, out);
}

static void run_max_pool2d(const Case *c, void *out) {
    max_pool2d(window(c), floats(c, "x"), out);
}

static void run_bilinear(const Case *c, void *out) {
    bilinear(window(c), floats(c, "x"), int_attr(c, "align_corners", 0, 0), out);
}

static void run_exp(const Case *c, void *out) {
    exp_f32((int)find_array(c, "x")->count, floats(c, "x"), out);
}

static void run_softmax(const Case *c, void *out) {
    const Array *x = find_array(c, "x");
    softmax((int)x->count / x->size[3], x->size[3], x->data, out);
}

static void run_gate(const Case *c, void *out) {
    const Array *z = find_array(c, "z"), *noise = find_array(c, "noise");
    const char *mode = word_attr(c, "mode", "hard");
    int k = z->size[3];
    float temperature = 1.0f, threshold;
    float_attr(c, "temperature", &temperature);
    Gate g = {
        .soft = strstr(mode, "soft") != NULL,
        .gumbel = strstr(mode, "gumbel") != NULL,
        .torch = !strcmp(word_attr(c, "form", "kong2018"), "torch"),
        .index = !strcmp(find_array(c, "out")->dtype, "int32"),
        .temperature = temperature,
        .noise = noise ? noise->data : NULL,
        .threshold = float_attr(c, "threshold", &threshold),
        .noise_pixels = noise ? (int)noise->count / k : 1,
    };
    gate(g, (int)z->count / k, k, z->data, out);
}

static const struct {
    const char *op;
    void (*run)(const Case *, void *);
} OPS[] = {
    {"conv2d", run_conv2d}, {"max_pool2d", run_max_pool2d}, {"bilinear", run_bilinear},
    {"exp", run_exp},       {"softmax", run_softmax},       {"gate", run_gate},
};

static void write_output(const char *dir, const Case *c, const void *content, size_t bytes) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s.bin", dir, c->id) >= (int)sizeof path) fail("path is too long", dir);
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(content, 1, bytes, file) != bytes || fclose(file)) fail("cannot be written", path);
}

int main(int argc, char **argv) {
    static Case c;
    int done = 0, skipped = 0;
    if (argc != 3) fail("usage: plain DIR OUT", "two folders are needed");
    FILE *index = open_index(argv[1]);
    while (next_case(index, &c)) {
        size_t op = 0, ops = sizeof OPS / sizeof *OPS;
        while (op < ops && strcmp(OPS[op].op, c.op)) op++;
        if (op == ops) {
            skipped++;
            continue;
        }
        load_case(argv[1], &c);
        const Array *want = find_array(&c, "out"), *before = find_array(&c, "before");
        void *out = calloc(want->bytes + 1, 1);
        if (!out) fail("no memory", c.id);
        if (before) memcpy(out, before->data, before->bytes);  // scattered: other rows must keep what they hold
        OPS[op].run(&c, out);
        write_output(argv[2], &c, out, want->bytes);
        free(out);
        free_case(&c);
        done++;
    }
    fclose(index);
    printf("%d cases computed, %d of other ops\n", done, skipped);
    return 0;
}
