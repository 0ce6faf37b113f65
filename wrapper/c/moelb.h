/*
 * moelb: balanced placement of Mixture-of-Experts experts, and of prefill and
 * decode requests, for C.
 *
 * Build the library from the module's root, then link against it:
 *
 *     go build -buildmode=c-shared -o libmoelb.so ./wrapper/c
 *     cc -I wrapper/c program.c -L . -lmoelb -Wl,-rpath,.
 *
 * Words: an expert is a logical expert, a replica one physical copy of it, a
 * slot a place on a GPU for one replica. Slots are numbered through the GPUs in
 * order; slot s is on GPU s / (num_replicas / num_gpus) where GPUs share the
 * slots evenly. Arrays are dense, in row-major order: [layers][experts] means
 * that the experts of layer 0 come first.
 *
 * Memory. Every array belongs to the caller, whose sizes follow from the
 * arguments; the library keeps no pointer after a call returns. A struct starts
 * with its own size, which the caller sets to sizeof: zero the rest, and every
 * field that is not set has its documented default. A handle is a number, not a
 * pointer; it is released with the function that the opening one names.
 *
 * Errors. Functions return MOELB_OK or one of the codes below, and write one line
 * that names the field, the layer, the index and the value to message, cut to
 * message_size bytes with its NUL; message may be NULL. Nothing else is written
 * then, and no state has changed, but for MOELB_ROOM. Success leaves message as it
 * is.
 *
 * Threads. Any function may be called from any number of threads at once. Calls
 * on one handle wait for each other: open one a thread where that matters. The
 * library cannot be used in a process forked (without exec) from one that had
 * used it.
 */
#ifndef MOELB_H
#define MOELB_H

#include <stddef.h>
#include <stdint.h>

/* What a function returns. */
enum {
	MOELB_OK = 0,
	MOELB_SHAPE = 1,    /* a length or a size is not what the other fields ask for */
	MOELB_VALUE = 2,    /* a value is outside its range */
	MOELB_FIT = 3,      /* well-formed, but the experts do not fit the slots */
	MOELB_HANDLE = 4,   /* no such handle is open */
	MOELB_INTERNAL = 5, /* a fault of the library; please report it */
	MOELB_ROOM = 6      /* done, but the reply is longer than the room for it: see moelb_session_line */
};

/* Type of the numbers in moelb_problem.loads. */
enum { MOELB_FLOAT64 = 0, MOELB_FLOAT32 = 1, MOELB_INT64 = 2, MOELB_INT32 = 3 };

/* The algorithm: a search that proves a bound, or DeepSeek's published
 * rebalance_experts, array for array. */
enum { MOELB_OPTIMAL = 0, MOELB_DEEPSEEK = 1 };

/* Whether groups of experts stay together on a node: where the nodes can share
 * the groups evenly; always; never. */
enum { MOELB_AUTO = 0, MOELB_GROUPS = 1, MOELB_NONE = 2 };

/* How an expert's tokens are shared among its replicas: evenly, or split per
 * batch such that the GPUs even out (see moelb_split). */
enum { MOELB_EVEN = 0, MOELB_SPLIT = 1 };

/* How a layer's plan ended: the best found; proved that none is better; the best
 * found until timeout_seconds. */
enum { MOELB_FEASIBLE = 0, MOELB_PROVED = 1, MOELB_STOPPED = 2 };

/* What is to be placed where. */
typedef struct moelb_problem {
	size_t size; /* sizeof(moelb_problem) */

	/* The expected load of each expert, finite and >= 0: [layers][experts], or
	 * where windows > 1 [windows][layers][experts], oldest first, for a plan that
	 * holds over all of them. */
	const void *loads;
	int64_t windows; /* 0 = 1 */
	int64_t layers, experts;
	int32_t loads_type; /* MOELB_FLOAT64, ... */

	int32_t policy;   /* MOELB_OPTIMAL, ... */
	int32_t locality; /* MOELB_AUTO, ... */
	int32_t dispatch; /* MOELB_EVEN, ... */

	int64_t num_replicas; /* slots a layer, over all GPUs */
	int64_t num_groups;   /* of equally many consecutive experts; 0 = 1 */
	int64_t num_nodes;    /* of equally many GPUs; 0 = 1 */
	int64_t num_gpus;

	/* How many replicas a layer may live outside their group's node; 0 = none. */
	int64_t off_node_replicas;

	/* Not 0 = every expert on two nodes at least, so that any one node may fail; it
	 * wants twice as many slots as experts. */
	int64_t two_nodes;

	/* [num_gpus] relative speeds, 0 = out of service; NULL = all equal. */
	const double *gpu_speed;

	/* The placement in force, [layers][previous_slots] on previous_gpus GPUs, -1 =
	 * an empty slot; NULL = none. The plan then moves as few replicas as it can,
	 * and slots that keep their expert keep their index. previous_slots 0 =
	 * num_replicas, previous_gpus 0 = num_gpus. */
	const int64_t *previous;
	int64_t previous_slots, previous_gpus;

	/* With previous: a layer's moves stop once its imbalance is within target (0 =
	 * within 1% of the best plan); max_moves bounds the moves over all layers (0 =
	 * no bound, negative = none; what experts without a live replica, groups or
	 * two_nodes need is moved whatever the bound); restarts is how often a
	 * layer's moves are taken back by annealing (0 = 4, negative = never). */
	double target;
	int64_t max_moves;
	int64_t restarts;

	/* A layer's search ends this near its bound, as a fraction; 0 = 0.0002,
	 * negative = when nothing improves. */
	double tolerance;
	double timeout_seconds; /* end the search with the best plan so far; 0 = never */
	int64_t workers;        /* threads; 0 = all cores. The plan does not depend on it */

	/* [nodes] GPUs of each node, in order, which add up to num_gpus; NULL = num_nodes
	 * share them evenly. Beside it num_nodes is 0. */
	const int64_t *gpus_per_node;
	int64_t nodes;

	/* What fails together, apart from nodes: the GPUs of each of so many domains, in
	 * order; NULL = domains share the GPUs evenly, 0 = there are none. two_domains, not
	 * 0 = every expert in two of them at least. */
	const int64_t *domain_gpus;
	int64_t domains;
	int64_t two_domains;

	/* [everywhere_experts] experts that have a replica on every GPU in service. */
	const int64_t *everywhere;
	int64_t everywhere_experts;
} moelb_problem;

/* Where a plan goes. Arrays that are NULL are not written. */
typedef struct moelb_plan_result {
	size_t size; /* sizeof(moelb_plan_result) */

	int64_t *physical_to_logical; /* [layers][num_replicas]: the expert in each slot; -1 = empty */
	int64_t *replica_rank;        /* [layers][num_replicas]: which replica of its expert, from 0; -1 = empty */
	int64_t *logical_count;       /* [layers][experts]: the replicas of each expert */
	int64_t *gpu_slots;           /* [num_gpus]: the slots of each GPU */

	double *imbalance;   /* [layers]: load of the fullest GPU / mean, >= 1 */
	double *lower_bound; /* [layers]: proved: no placement is below it */
	int64_t *moves;      /* [layers]: slots whose expert was not on that GPU in previous */
	int32_t *status;     /* [layers]: MOELB_FEASIBLE, ... */

	int64_t max_replicas; /* written: the largest of logical_count */
} moelb_plan_result;

/* A placement in force. */
typedef struct moelb_placement {
	size_t size; /* sizeof(moelb_placement) */
	int64_t layers, experts, slots, num_gpus;
	const int64_t *physical_to_logical; /* [layers][slots]; -1 = an empty slot */
	const int64_t *gpu_slots;           /* [num_gpus] slots of each GPU; NULL = as a plan shares them */
	const double *gpu_speed;            /* [num_gpus], 0 = out of service; NULL = all equal */
} moelb_placement;

/* What a session balances: prompts over the ranks of a prefill unit, or running
 * requests over those of a decode unit. */
enum { MOELB_PREFILL = 0, MOELB_DECODE = 1 };

/* A handle; 0 is never one, and none of one kind is one of another. */
typedef uint64_t moelb_handle;

#ifndef MOELB_NO_PROTOTYPES

#ifdef __cplusplus
extern "C" {
#endif

/* Plans a placement; with previous, from the one in force. */
int moelb_plan(const moelb_problem *problem, moelb_plan_result *result, char *message, size_t message_size);

/* Writes the slots of each expert's replicas in the order of their ranks to
 * slots_of, [layers][experts][width], padded with -1. width is at least
 * max_replicas of the plan. replica_rank NULL = in the order of slots. */
int moelb_logical_to_physical(int64_t layers, int64_t experts, int64_t slots, const int64_t *physical_to_logical, const int64_t *replica_rank,
	int64_t width, int64_t *slots_of, char *message, size_t message_size);

/* Opens a splitter, which shares each batch's tokens among the replicas of a
 * placement. It is released with moelb_splitter_close. */
int moelb_splitter_open(const moelb_placement *placement, moelb_handle *splitter, char *message, size_t message_size);

/* Splits counts, the tokens of each expert in a batch, [layers][experts] for
 * `layers` layers from first_layer on, such that the largest load / speed of a
 * GPU is the least that whole tokens allow. Writes the tokens of each slot to
 * quota, [layers][slots], and, unless NULL, each layer's imbalance to imbalance,
 * [layers]. For each expert its slots' quotas add up to its count. */
int moelb_split(moelb_handle splitter, int64_t first_layer, int64_t layers, const int64_t *counts, int64_t *quota, double *imbalance,
	char *message, size_t message_size);

int moelb_splitter_close(moelb_handle splitter, char *message, size_t message_size);

/* Opens a session, which decides which rank takes which request: kind is
 * MOELB_PREFILL or MOELB_DECODE. It speaks the lines of `moelb prefill` and `moelb
 * decode` (moelb prefill --help), the first of which is {"op":"config",...}. It is
 * released with moelb_session_close. */
int moelb_session_open(int32_t kind, moelb_handle *session, char *message, size_t message_size);

/* Carries out one line, one JSON object of line_size bytes, and writes its reply,
 * one line of JSON and a NUL, to reply. A line that fails has changed nothing, and
 * its error is the message; the code is MOELB_SHAPE or MOELB_VALUE.
 *
 * A line is carried out once, whatever room there is for its reply: the session
 * keeps the reply until its next line. Where reply_size bytes do not hold it,
 * nothing is written to reply and the code is MOELB_ROOM; moelb_session_reply
 * writes it where there is room. Unless NULL, reply_length is set to the length of
 * the reply without its NUL in both cases. reply may be NULL, which is no error:
 * for a reply that is not wanted, or to ask for its length first. Threads that
 * share a session agree on who sends a line and fetches its reply. */
int moelb_session_line(moelb_handle session, const char *line, size_t line_size, char *reply, size_t reply_size, size_t *reply_length,
	char *message, size_t message_size);

/* Writes the reply to the session's last line again; it is empty where that failed
 * or there was none. */
int moelb_session_reply(moelb_handle session, char *reply, size_t reply_size, size_t *reply_length, char *message, size_t message_size);

int moelb_session_close(moelb_handle session, char *message, size_t message_size);

#ifdef __cplusplus
}
#endif

#endif /* MOELB_NO_PROTOTYPES */
#endif /* MOELB_H */
