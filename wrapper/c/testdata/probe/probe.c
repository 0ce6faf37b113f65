/* Calls the probe from a thread of its own. */
#include <pthread.h>
#include <stdio.h>

int probe(int n);

static void *work(void *arg) {
	*(int *)arg = probe(41);
	return NULL;
}

int main(void) {
	pthread_t thread;
	int n = 0;
	if (pthread_create(&thread, NULL, work, &n) != 0 || pthread_join(thread, NULL) != 0)
		return 2;
	printf("%d\n", n);
	return n != 42;
}
