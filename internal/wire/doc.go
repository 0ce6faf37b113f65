// Package wire reads and writes the JSON that the command and its sessions speak:
// inputs whose shape is known, read as a stream with errors that name the place,
// and answers that are tables of small numbers.
package wire
