// Package session answers the lines of the command's sessions: a prefill or a
// decode balancer that is spoken to in JSON, one line in and one line out. The
// command serves them over a pipe, the C library by handle.
package session
