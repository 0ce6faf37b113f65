/*
 * Holds prefill and decode sessions in several threads at once, and one that all
 * share, keeps its own account of them, and compares. Arguments: lines, threads.
 * Prints one line and returns 0 where all is well.
 */
#include <pthread.h>
#include <stdarg.h>
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

enum { RANKS = 4, ROOM = 1 << 14, MOST = 64 };

static long lines, threads;
static char message[256]; /* of the main thread */
static moelb_handle shared;

/* A small generator, one state a thread. */
static uint32_t next_random(uint32_t *state) {
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* One thread's end of a session. */
typedef struct talk {
	moelb_handle session;
	long said;
	char reply[ROOM];
	char message[256];
} talk;

/* Says a line and demands its success. Now and then there is no room for the reply
 * at first. */
static const char *say(talk *t, const char *format, ...) {
	char *message = t->message, line[512];
	size_t length = 0;
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	CHECK(n > 0 && (size_t)n < sizeof line);
	char *exact = malloc((size_t)n); /* so that a sanitizer sees a read beyond the line */
	memcpy(exact, line, (size_t)n);
	if (t->session != shared && t->said++ % 16 == 0) {
		memset(t->reply, '#', 9);
		CHECK(moelb_session_line(t->session, exact, (size_t)n, t->reply, 8, &length, t->message, sizeof t->message) == MOELB_ROOM);
		CHECK(length > 8 && memcmp(t->reply, "#########", 9) == 0);
		CHECK(moelb_session_reply(t->session, t->reply, length, NULL, t->message, sizeof t->message) == MOELB_ROOM);
		char *fits = malloc(length + 1);
		CHECK(moelb_session_reply(t->session, fits, length + 1, NULL, t->message, sizeof t->message) == MOELB_OK);
		CHECK(length < ROOM && strlen(fits) == length);
		memcpy(t->reply, fits, length + 1);
		free(fits);
	} else {
		CHECK(moelb_session_line(t->session, exact, (size_t)n, t->reply, ROOM, &length, t->message, sizeof t->message) == MOELB_OK);
		CHECK(strlen(t->reply) == length);
	}
	free(exact);
	return t->reply;
}

/* The number that follows the next key in a reply, which the call moves on to. */
static long number(talk *t, const char **at, const char *key) {
	char *message = t->message;
	*at = strstr(*at, key);
	CHECK(*at != NULL);
	*at += strlen(key);
	return strtol(*at, NULL, 10);
}

static void ok(talk *t, const char *reply) {
	char *message = t->message;
	CHECK(strcmp(reply, "{\"ok\":true}") == 0);
}

/* Compares the ledger of a decode session with requests and their KV. */
static void balanced(talk *t, long requests, long kv) {
	char *message = t->message;
	const char *at = say(t, "{\"op\":\"stats\"}");
	long r = 0, k = 0;
	for (int g = 0; g < RANKS; g++) {
		r += number(t, &at, "\"requests\":");
		k += number(t, &at, "\"kv\":");
	}
	CHECK(r == requests && k == kv);
}

/* Requests join, grow, move and leave; the account is exact throughout. */
static void decode(talk *t, long lines, uint32_t *random) {
	char *message = t->message;
	long id[MOST], kv[MOST], next = 0, all = 0, before = t->said;
	int running = 0;
	ok(t, say(t, "{\"op\":\"config\",\"ranks\":%d,\"kv_capacity\":100000}", RANKS));
	while (t->said - before < lines) {
		uint32_t what = next_random(random) % 16;
		int i = running > 0 ? (int)(next_random(random) % (uint32_t)running) : 0;
		const char *at;
		if (running < MOST && (running == 0 || what < 6)) {
			long n = 1 + next_random(random) % 3000;
			at = say(t, "{\"op\":\"add\",\"id\":\"d%ld\",\"kv\":%ld,\"output\":%u}", next, n, next_random(random) % 500);
			long rank = number(t, &at, "\"rank\":");
			CHECK(rank >= 0 && rank < RANKS);
			id[running] = next++, kv[running++] = n, all += n;
		} else if (what < 11) {
			ok(t, say(t, "{\"op\":\"done\",\"id\":\"d%ld\"}", id[i]));
			all -= kv[i];
			id[i] = id[--running], kv[i] = kv[running];
		} else if (what < 13) {
			ok(t, say(t, "{\"op\":\"step\"}"));
			for (int j = 0; j < running; j++)
				kv[j]++, all++;
		} else if (what < 14) {
			ok(t, say(t, "{\"op\":\"grow\",\"id\":\"d%ld\",\"tokens\":3}", id[i]));
			kv[i] += 3, all += 3;
		} else if (what < 15) {
			at = say(t, "{\"op\":\"rebalance\",\"max_moves\":2}");
			CHECK(strncmp(at, "{\"moves\":[", 10) == 0);
		} else {
			balanced(t, running, all);
		}
	}
	while (running > 0)
		ok(t, say(t, "{\"op\":\"done\",\"id\":\"d%ld\"}", id[--running]));
	balanced(t, 0, 0);
	CHECK(strstr(t->reply, "\"imbalance\":{\"requests\":1,\"kv\":1}}") != NULL);
}

/* Prompts are cut into chunks, whose tokens add up to what needs work. */
static void prefill(talk *t, long lines, uint32_t *random) {
	char *message = t->message;
	long left[MOST] = {0}, before = t->said; /* tokens to compute of prompt i; 0 = it is not there */
	ok(t, say(t, "{\"op\":\"config\",\"ranks\":%d,\"max_tokens\":4096}", RANKS));
	for (;;) {
		int over = t->said - before >= lines, open = 0, i = (int)(next_random(random) % MOST);
		uint32_t what = next_random(random) % 8;
		for (int j = 0; j < MOST; j++)
			open += left[j] > 0;
		if (over && open == 0)
			break;
		if (!over && what < 5 && left[i] == 0) {
			long cached = next_random(random) % 500, tokens = cached + 1 + next_random(random) % 5000;
			ok(t, say(t, "{\"op\":\"enqueue\",\"id\":\"p%d\",\"tokens\":%ld,\"cached\":%ld}", i, tokens, cached));
			left[i] = tokens - cached;
		} else if (!over && what == 5 && left[i] > 0) {
			ok(t, say(t, "{\"op\":\"done\",\"id\":\"p%d\"}", i));
			left[i] = 0;
		} else {
			const char *at = say(t, "{\"op\":\"step\"}");
			while (strstr(at, "\"id\":\"p") != NULL) {
				long p = number(t, &at, "\"id\":\"p"), rank = number(t, &at, "\"rank\":");
				CHECK(p >= 0 && p < MOST && left[p] > 0 && rank >= 0 && rank < RANKS);
				left[p] -= number(t, &at, "\"tokens\":");
				CHECK(left[p] >= 0 && (strncmp(at = strstr(at, "\"last\":"), "\"last\":true", 11) == 0) == (left[p] == 0));
			}
		}
	}
	say(t, "{\"op\":\"stats\"}");
	const char *at = t->reply;
	for (int g = 0; g < RANKS; g++) {
		CHECK(number(t, &at, "\"requests\":") == 0);
		CHECK(number(t, &at, "\"tokens\":") == 0);
		CHECK(number(t, &at, "\"attention\":") == 0);
	}
	CHECK(strstr(at, "\"queued\":0,") != NULL);
}

static void *work(void *arg) {
	long self = (long)(size_t)arg;
	uint32_t random = (uint32_t)self * 7919u + 1;
	talk *t = calloc(1, sizeof *t);
	char *message = t->message;
	long mine = lines / threads;
	for (int kind = MOELB_PREFILL; kind <= MOELB_DECODE; kind++) {
		CHECK(moelb_session_open(kind, &t->session, t->message, sizeof t->message) == MOELB_OK && t->session != 0);
		if (kind == MOELB_PREFILL)
			prefill(t, mine / 2, &random);
		else
			decode(t, mine * 3 / 8, &random);
		CHECK(moelb_session_close(t->session, t->message, sizeof t->message) == MOELB_OK);
		CHECK(moelb_session_close(t->session, t->message, sizeof t->message) == MOELB_HANDLE);
	}
	t->session = shared;
	for (long i = 0; i < mine / 16; i++) {
		const char *at = say(t, "{\"op\":\"add\",\"id\":\"%ld of %ld\",\"kv\":%ld}", i, self, 1 + i % 100);
		long rank = number(t, &at, "\"rank\":");
		CHECK(rank >= 0 && rank < RANKS);
		ok(t, say(t, "{\"op\":\"done\",\"id\":\"%ld of %ld\"}", i, self));
	}
	free(t);
	return NULL;
}

/* Everything here is refused with a code and a message, and changes nothing. */
static void refusals(void) {
	moelb_handle h = 0;
	char reply[64] = "#";
	size_t length = 7;
#define REFUSED(line, code, text)                                                                                          \
	do {                                                                                                                     \
		CHECK(moelb_session_line(h, line, strlen(line), reply, sizeof reply, &length, message, sizeof message) == code);       \
		CHECK(strstr(message, text) != NULL && reply[0] == '#' && length == 7);                                                \
	} while (0)
	CHECK(moelb_session_open(2, &h, message, sizeof message) == MOELB_VALUE && h == 0);
	CHECK(moelb_session_open(MOELB_DECODE, NULL, message, sizeof message) == MOELB_SHAPE);
	REFUSED("{\"op\":\"step\"}", MOELB_HANDLE, "0 is not an open session");
	CHECK(moelb_session_open(MOELB_DECODE, &h, message, sizeof message) == MOELB_OK && h != 0);
	CHECK(moelb_session_reply(h, reply, 1, &length, message, sizeof message) == MOELB_OK && reply[0] == 0 && length == 0);
	reply[0] = '#', length = 7;
	CHECK(moelb_session_line(h, NULL, 0, reply, sizeof reply, &length, message, sizeof message) == MOELB_SHAPE);
	REFUSED("", MOELB_SHAPE, "the input ends here");
	REFUSED("{\"op\":\"step\"}", MOELB_VALUE, "op: step before config");
	REFUSED("{\"op\":\"config\",\"ranks\":0}", MOELB_VALUE, "ranks: 0");
	REFUSED("{\"op\":\"config\",\"ranks\":2", MOELB_SHAPE, "ends here");
	CHECK(moelb_session_line(h, "x", SIZE_MAX, reply, sizeof reply, &length, message, sizeof message) == MOELB_VALUE);
	CHECK(strstr(message, "longer than 64 MiB") != NULL && reply[0] == '#' && length == 7);

	/* Neither reply nor its length nor a message is asked for. */
	const char *config = "{\"op\":\"config\",\"ranks\":2}\n", *add = "{\"op\":\"add\",\"id\":\"a\",\"kv\":5}";
	CHECK(moelb_session_line(h, config, strlen(config), NULL, 0, NULL, NULL, 0) == MOELB_OK);
	CHECK(moelb_session_reply(h, reply, sizeof reply, &length, message, sizeof message) == MOELB_OK);
	CHECK(strcmp(reply, "{\"ok\":true}") == 0 && length == 11);

	/* Without room the line is carried out all the same, once. */
	CHECK(moelb_session_line(h, add, strlen(add), reply, 19, &length, message, sizeof message) == MOELB_ROOM && length == 19);
	CHECK(strcmp(message, "reply: it takes 20 bytes with its NUL, and 19 are given; moelb_session_reply has it still") == 0);
	CHECK(moelb_session_reply(h, reply, 20, NULL, message, sizeof message) == MOELB_OK && strcmp(reply, "{\"id\":\"a\",\"rank\":0}") == 0);
	reply[0] = '#', length = 7;
	REFUSED(add, MOELB_VALUE, "id: \"a\" is already known");
	CHECK(moelb_session_reply(h, reply, sizeof reply, &length, message, sizeof message) == MOELB_OK && length == 0);
	reply[0] = '#', length = 7;

	/* A handle of one kind is none of another. */
	CHECK(moelb_splitter_close(h, message, sizeof message) == MOELB_HANDLE);
	CHECK(moelb_session_close(h + 1, message, sizeof message) == MOELB_HANDLE);
	CHECK(moelb_session_close(h, message, sizeof message) == MOELB_OK);
	CHECK(moelb_session_close(h, message, sizeof message) == MOELB_HANDLE);
	CHECK(moelb_session_reply(h, reply, sizeof reply, &length, message, sizeof message) == MOELB_HANDLE);
	REFUSED(add, MOELB_HANDLE, "is not an open session");
}

int main(int argc, char **argv) {
	if (argc != 3)
		return 2;
	lines = atol(argv[1]), threads = atol(argv[2]);
	refusals();
	CHECK(moelb_session_open(MOELB_DECODE, &shared, message, sizeof message) == MOELB_OK);
	talk *t = calloc(1, sizeof *t);
	t->session = shared;
	ok(t, say(t, "{\"op\":\"config\",\"ranks\":%d}", RANKS));
	pthread_t thread[64];
	for (long i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, work, (void *)(size_t)i) != 0)
			return 3;
	for (long i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	balanced(t, 0, 0);
	free(t);
	CHECK(moelb_session_close(shared, message, sizeof message) == MOELB_OK);
	printf("%ld lines by %ld threads: ok\n", lines, threads);
	return 0;
}
