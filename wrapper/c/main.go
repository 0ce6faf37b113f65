// Command c is the library for C programs, and for the languages that call C:
//
//	go build -buildmode=c-shared -o libmoelb.so ./wrapper/c
//
// moelb.h describes what it exports; the header that the Go tool writes beside
// the library is not needed. Building wants a C compiler.
package main

func main() {}
