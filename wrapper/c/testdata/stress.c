/*
 * Plans and splits from several threads at once, checks every answer, then asks
 * for what must be refused. Arguments: plans, splits, threads. Prints one line
 * and returns 0 where all is well.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "moelb.h"

#define CHECK(what)                                                                  \
	do {                                                                               \
		if (!(what)) {                                                                   \
			fprintf(stderr, "%s:%d: %s (message: %s)\n", __FILE__, __LINE__, #what, message); \
			exit(1);                                                                       \
		}                                                                                \
	} while (0)

enum { LAYERS = 3, EXPERTS = 64, SLOTS = 80, GPUS = 8, WIDTH = SLOTS - EXPERTS + 1 };

static long plans, splits, threads;
static char message[256]; /* of the main thread */

/* A small generator, one state a thread. */
static uint32_t next_random(uint32_t *state) {
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static void check_plan(const moelb_problem *p, const int64_t *slot, const int64_t *rank, const int64_t *count, int64_t most, char *message) {
	int64_t slots_of[LAYERS * EXPERTS * WIDTH];
	CHECK(most >= 1 && most <= WIDTH);
	CHECK(moelb_logical_to_physical(LAYERS, EXPERTS, SLOTS, slot, rank, WIDTH, slots_of, message, 256) == MOELB_OK);
	for (int l = 0; l < LAYERS; l++) {
		int64_t seen[EXPERTS] = {0};
		for (int s = 0; s < SLOTS; s++) {
			int64_t e = slot[l * SLOTS + s];
			if (e < 0) {
				CHECK(e == -1 && p->gpu_speed != NULL && p->gpu_speed[s / (SLOTS / GPUS)] == 0);
				continue;
			}
			CHECK(e < EXPERTS);
			seen[e]++;
			CHECK(slots_of[(l * EXPERTS + e) * WIDTH + rank[l * SLOTS + s]] == s);
		}
		for (int e = 0; e < EXPERTS; e++) {
			CHECK(seen[e] >= 1 && seen[e] == count[l * EXPERTS + e] && seen[e] <= most);
			for (int i = 0; i < WIDTH; i++)
				CHECK((slots_of[(l * EXPERTS + e) * WIDTH + i] >= 0) == (i < seen[e]));
		}
	}
}

static void *work(void *arg) {
	uint32_t random = (uint32_t)(size_t)arg * 7919u + 1;
	char message[256] = "";
	double loads[2 * LAYERS * EXPERTS];
	float narrow[LAYERS * EXPERTS];
	double imbalance[LAYERS], bound[LAYERS];
	double speed[GPUS];
	int64_t slot[LAYERS * SLOTS], rank[LAYERS * SLOTS], count[LAYERS * EXPERTS], before[LAYERS * SLOTS], moves[LAYERS];
	int32_t status[LAYERS];

	for (long i = 0; i < plans / threads; i++) {
		for (int j = 0; j < 2 * LAYERS * EXPERTS; j++)
			loads[j] = next_random(&random) % 1000;
		for (int j = 0; j < LAYERS * EXPERTS; j++)
			narrow[j] = (float)loads[j];
		moelb_problem p = {.size = sizeof p, .loads = loads, .layers = LAYERS, .experts = EXPERTS, .num_replicas = SLOTS, .num_gpus = GPUS};
		moelb_plan_result r = {.size = sizeof r, .physical_to_logical = slot, .replica_rank = rank, .logical_count = count,
			.imbalance = imbalance, .lower_bound = bound, .moves = moves, .status = status};
		switch (i % 4) {
		case 0:
			p.policy = MOELB_DEEPSEEK;
			p.num_groups = 4, p.num_nodes = 2;
			p.loads = narrow, p.loads_type = MOELB_FLOAT32;
			break;
		case 1:
			p.num_groups = 4, p.num_nodes = 2;
			break;
		case 2:
			p.windows = 2;
			break;
		case 3:
			p.workers = 1;
		}
		CHECK(moelb_plan(&p, &r, message, sizeof message) == MOELB_OK);
		check_plan(&p, slot, rank, count, r.max_replicas, message);
		for (int l = 0; l < LAYERS; l++)
			CHECK(imbalance[l] >= bound[l] * (1 - 1e-9) && bound[l] >= 1 - 1e-9);
		if (i % 4 != 3)
			continue;
		/* A GPU fails: plan anew from the placement in force. */
		memcpy(before, slot, sizeof before);
		for (int g = 0; g < GPUS; g++)
			speed[g] = g == 5 ? 0 : 1;
		p.previous = before;
		p.gpu_speed = speed;
		CHECK(moelb_plan(&p, &r, message, sizeof message) == MOELB_OK);
		check_plan(&p, slot, rank, count, r.max_replicas, message);
		for (int l = 0; l < LAYERS; l++) {
			int64_t moved = 0; /* slots whose expert was not on that GPU */
			for (int s = 0; s < SLOTS; s++) {
				int first = s / (SLOTS / GPUS) * (SLOTS / GPUS), had = slot[l * SLOTS + s] < 0;
				for (int t = first; t < first + SLOTS / GPUS; t++)
					had |= before[l * SLOTS + t] == slot[l * SLOTS + s];
				moved += !had;
			}
			CHECK(moved == moves[l]);
		}
	}

	for (int s = 0; s < LAYERS * SLOTS; s++)
		slot[s] = s % SLOTS % EXPERTS;
	moelb_placement placement = {.size = sizeof placement, .layers = LAYERS, .experts = EXPERTS, .slots = SLOTS, .num_gpus = GPUS, .physical_to_logical = slot};
	moelb_handle splitter = 0;
	for (long i = 0; i < splits / threads; i++) {
		int64_t counts[LAYERS * EXPERTS], quota[LAYERS * SLOTS];
		if (i % 100 == 0) {
			if (splitter != 0)
				CHECK(moelb_splitter_close(splitter, message, sizeof message) == MOELB_OK);
			CHECK(moelb_splitter_open(&placement, &splitter, message, sizeof message) == MOELB_OK && splitter != 0);
		}
		for (int j = 0; j < LAYERS * EXPERTS; j++)
			counts[j] = next_random(&random) % 100;
		CHECK(moelb_split(splitter, 0, LAYERS, counts, quota, imbalance, message, sizeof message) == MOELB_OK);
		for (int l = 0; l < LAYERS; l++) {
			int64_t sum[EXPERTS] = {0};
			for (int s = 0; s < SLOTS; s++) {
				CHECK(quota[l * SLOTS + s] >= 0);
				sum[slot[l * SLOTS + s]] += quota[l * SLOTS + s];
			}
			CHECK(memcmp(sum, counts + l * EXPERTS, sizeof sum) == 0);
			CHECK(imbalance[l] >= 1 - 1e-9);
		}
	}
	if (splitter != 0)
		CHECK(moelb_splitter_close(splitter, message, sizeof message) == MOELB_OK);
	return NULL;
}

/* Everything here is refused with a code and a message, and writes nothing. */
static void refusals(void) {
	double loads[4] = {4, 3, 2, 1}, bad[4] = {4, 3, -2, 1};
	int64_t slot[6] = {7, 7, 7, 7, 7, 7}, counts[4] = {1, 2, 3, 4}, quota[6] = {7, 7, 7, 7, 7, 7};
	moelb_problem good = {.size = sizeof good, .loads = loads, .layers = 1, .experts = 4, .num_replicas = 6, .num_gpus = 2}, p;
	moelb_plan_result r = {.size = sizeof r, .physical_to_logical = slot, .max_replicas = 7};
#define REFUSED(code, text)                                                 \
	do {                                                                      \
		CHECK(moelb_plan(&p, &r, message, sizeof message) == code);             \
		CHECK(strstr(message, text) != NULL);                                   \
		CHECK(slot[0] == 7 && slot[5] == 7 && r.max_replicas == 7);             \
		p = good;                                                               \
	} while (0)
	p = good, p.loads = bad;
	REFUSED(MOELB_VALUE, "loads: layer 0, index 2: -2 is negative");
	p.loads = NULL;
	REFUSED(MOELB_SHAPE, "loads: NULL");
	p.size = 8;
	REFUSED(MOELB_SHAPE, "problem: size 8");
	p.num_replicas = 3;
	REFUSED(MOELB_FIT, "num_replicas: 3 replicas for 4 experts");
	p.num_replicas = INT64_MIN;
	REFUSED(MOELB_VALUE, "num_replicas: -9223372036854775808");
	p.num_gpus = 0;
	REFUSED(MOELB_VALUE, "num_gpus: 0");
	p.layers = INT64_MAX;
	REFUSED(MOELB_VALUE, "layers: 9223372036854775807");
	p.layers = 4096, p.experts = 65536;
	REFUSED(MOELB_SHAPE, "loads: 4096 layers of 65536 experts");
	p.windows = -1;
	REFUSED(MOELB_VALUE, "windows: -1");
	p.windows = INT64_MAX;
	REFUSED(MOELB_VALUE, "windows");
	p.loads_type = 9;
	REFUSED(MOELB_VALUE, "loads_type: 9");
	p.policy = 9;
	REFUSED(MOELB_VALUE, "policy");
	p.timeout_seconds = NAN;
	REFUSED(MOELB_VALUE, "timeout_seconds");
	p.previous = counts, p.previous_slots = 4, p.previous_gpus = 2;
	REFUSED(MOELB_VALUE, "layer 0, index 3: expert 4");
	CHECK(moelb_plan(NULL, &r, message, sizeof message) == MOELB_SHAPE);
	CHECK(moelb_plan(&p, NULL, message, sizeof message) == MOELB_SHAPE);
	r.size = 0;
	REFUSED(MOELB_SHAPE, "result: size 0");
	r.size = sizeof r;

	/* A message is cut to the room there is, and may be left out. */
	char small[6] = "######";
	p.loads = bad;
	CHECK(moelb_plan(&p, &r, small, 5) == MOELB_VALUE && memcmp(small, "load\0#", 6) == 0);
	CHECK(moelb_plan(&p, &r, small, 0) == MOELB_VALUE && memcmp(small, "load\0#", 6) == 0);
	CHECK(moelb_plan(&p, &r, NULL, 0) == MOELB_VALUE);

	/* Nothing but the result is asked for. */
	moelb_plan_result none = {.size = sizeof none};
	p = good;
	CHECK(moelb_plan(&p, &none, message, sizeof message) == MOELB_OK && none.max_replicas >= 2);
	CHECK(moelb_plan(&p, &r, message, sizeof message) == MOELB_OK && r.max_replicas == none.max_replicas);

	int64_t slots_of[8];
	CHECK(moelb_logical_to_physical(1, 4, 6, slot, NULL, r.max_replicas - 1, slots_of, message, sizeof message) == MOELB_VALUE);
	CHECK(moelb_logical_to_physical(1, 4, 0, slot, NULL, 1, slots_of, message, sizeof message) == MOELB_VALUE);
	CHECK(moelb_logical_to_physical(1, 4, 6, NULL, NULL, 1, slots_of, message, sizeof message) == MOELB_SHAPE);

	moelb_placement placement = {.size = sizeof placement, .layers = 1, .experts = 4, .slots = 6, .num_gpus = 2, .physical_to_logical = slot};
	moelb_handle h = 0, second = 0;
	CHECK(moelb_splitter_open(NULL, &h, message, sizeof message) == MOELB_SHAPE && h == 0);
	CHECK(moelb_splitter_open(&placement, NULL, message, sizeof message) == MOELB_SHAPE);
	placement.experts = 5;
	CHECK(moelb_splitter_open(&placement, &h, message, sizeof message) == MOELB_FIT && h == 0);
	placement.experts = 4;
	CHECK(moelb_splitter_open(&placement, &h, message, sizeof message) == MOELB_OK && h != 0);
	CHECK(moelb_split(h, 1, 1, counts, quota, NULL, message, sizeof message) == MOELB_VALUE);
	CHECK(moelb_split(h, 0, 2, counts, quota, NULL, message, sizeof message) == MOELB_VALUE);
	CHECK(moelb_split(h, 0, 1, NULL, quota, NULL, message, sizeof message) == MOELB_SHAPE);
	counts[3] = -1;
	CHECK(moelb_split(h, 0, 1, counts, quota, NULL, message, sizeof message) == MOELB_VALUE && strstr(message, "counts: layer 0, index 3: -1") != NULL);
	counts[3] = 4;
	CHECK(quota[0] == 7 && quota[5] == 7);
	CHECK(moelb_split(h, 0, 1, counts, quota, NULL, message, sizeof message) == MOELB_OK);
	CHECK(quota[0] + quota[1] + quota[2] + quota[3] + quota[4] + quota[5] == 10);
	CHECK(moelb_splitter_close(h, message, sizeof message) == MOELB_OK);
	CHECK(moelb_splitter_close(h, message, sizeof message) == MOELB_HANDLE);
	CHECK(moelb_split(h, 0, 1, counts, quota, NULL, message, sizeof message) == MOELB_HANDLE);
	CHECK(moelb_splitter_open(&placement, &second, message, sizeof message) == MOELB_OK && second != h);
	CHECK(moelb_splitter_close(second, message, sizeof message) == MOELB_OK);
}

int main(int argc, char **argv) {
	if (argc != 4)
		return 2;
	plans = atol(argv[1]), splits = atol(argv[2]), threads = atol(argv[3]);
	refusals();
	pthread_t thread[64];
	for (long t = 0; t < threads; t++)
		if (pthread_create(&thread[t], NULL, work, (void *)(size_t)t) != 0)
			return 3;
	for (long t = 0; t < threads; t++)
		pthread_join(thread[t], NULL);
	printf("%ld plans and %ld splits by %ld threads: ok\n", plans, splits, threads);
	return 0;
}
