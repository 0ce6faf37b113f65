package workload

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moelb/moelb/internal/gunzip"
)

// Request is one request of a trace.
type Request struct {
	Arrival float64 // seconds after the first request of the trace
	Input   int     // prompt tokens
	Output  int     // generated tokens
	// Blocks names the prompt's blocks of Trace.BlockTokens tokens (512 in what this
	// package makes), the last of which may be shorter: two requests share a prefix
	// as far as their leading names agree. nil where the trace does not tell.
	Blocks []int64
	// Copy tells where a trace is played several times: prompts of different copies
	// share nothing, whatever their blocks' names.
	Copy int64
}

// Trace is a request trace.
type Trace struct {
	Requests []Request // in order of arrival; those of one instant in the order of the trace
	Format   string
	// BlockTokens is how many tokens a block has; 0 = no request names any.
	BlockTokens int
}

// The trace formats that ReadTrace knows, as it names them.
const (
	Mooncake = "mooncake" // JSON Lines: timestamp (ms), input_length, output_length, hash_ids of 512 tokens
	Bailian  = "bailian"  // JSON Lines: the same with chat_id, timestamp in seconds, hash_ids of 16 tokens
	Azure    = "azure"    // CSV: TIMESTAMP (a date), ContextTokens, GeneratedTokens
	BurstGPT = "burstgpt" // CSV: Timestamp (s), Request tokens, Response tokens, and others
	Vidur    = "vidur"    // CSV: arrived_at (s), num_prefill_tokens, num_decode_tokens, and others
)

// What is read of one trace, at most.
const (
	maxTraceLine     = 1 << 22
	maxTraceRequests = 1 << 22
	maxTraceBlocks   = 1 << 25
	maxTraceTokens   = 1 << 30
	maxTraceSeconds  = 1e12
)

// What a block of each format's hash_ids holds, unless the reader is told otherwise.
const (
	mooncakeBlock = 512
	bailianBlock  = 16
	maxTraceBlock = 1 << 20
)

// ReadTrace reads a request trace in one of the formats above, which it tells
// by the first line. It unpacks gzip. CSV columns are found by their name; others
// are ignored. Counts of tokens may be zero, as they are for requests that failed.
// blockTokens is how many tokens each of a request's hash_ids stands for; 0 = as
// many as the format's publisher says. A request whose ids are more or fewer than
// its input has blocks is refused: the blocks are of another size. It reads line
// by line, and an error names the line.
func ReadTrace(r io.Reader, blockTokens int) (Trace, error) {
	if blockTokens < 0 || blockTokens > maxTraceBlock {
		return Trace{}, fmt.Errorf("block tokens: %d is not between 1 and %d", blockTokens, maxTraceBlock)
	}
	b := bufio.NewReaderSize(r, 1<<16)
	if head, _ := b.Peek(2); string(head) == gunzip.Magic {
		z, err := gunzip.New(b)
		if err != nil {
			return Trace{}, err
		}
		b = bufio.NewReaderSize(z, 1<<16)
	}
	t := traceReader{lines: bufio.NewScanner(b), block: blockTokens}
	t.lines.Buffer(nil, maxTraceLine)
	format, err := t.read()
	if err == nil && len(t.requests) == 0 {
		err = errors.New("no requests")
	}
	if err != nil {
		if t.line > 0 {
			err = fmt.Errorf("line %d: %w", t.line, err)
		}
		return Trace{}, err
	}
	first := t.requests[0].Arrival
	for _, q := range t.requests {
		first = min(first, q.Arrival)
	}
	for i := range t.requests {
		t.requests[i].Arrival -= first
	}
	slices.SortStableFunc(t.requests, func(a, b Request) int { return cmp.Compare(a.Arrival, b.Arrival) })
	out := Trace{Requests: t.requests, Format: format}
	if t.blocks > 0 {
		out.BlockTokens = t.block
	}
	return out, nil
}

// ReadTraceFile is ReadTrace on a file.
func ReadTraceFile(path string, blockTokens int) (Trace, error) {
	f, err := os.Open(path)
	if err != nil {
		return Trace{}, err
	}
	defer f.Close()
	t, err := ReadTrace(f, blockTokens)
	if err != nil {
		return Trace{}, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// traceReader holds the place in a trace and what has been read of it.
type traceReader struct {
	lines    *bufio.Scanner
	line     int // counted from 1; 0 = before the first
	blocks   int
	block    int // tokens of a block; 0 = not known yet
	requests []Request
}

// next returns the next line that is not blank, without its end; nil = no more.
func (t *traceReader) next() ([]byte, error) {
	for t.lines.Scan() {
		t.line++
		line := t.lines.Bytes()
		if t.line == 1 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
	err := t.lines.Err()
	if err != nil {
		t.line++
		if errors.Is(err, bufio.ErrTooLong) {
			err = fmt.Errorf("longer than %d bytes", maxTraceLine)
		}
	}
	return nil, err
}

func (t *traceReader) read() (string, error) {
	line, err := t.next()
	if line == nil {
		return "", err
	}
	if line[0] == '{' {
		return t.jsonLines(line)
	}
	for _, f := range traceFormats {
		if columns, ok := f.columns(line); ok {
			return f.name, t.csv(f, columns)
		}
	}
	return "", fmt.Errorf("%.60q is the head of no known trace", line)
}

// add appends a request, its arrival not yet counted from the first.
func (t *traceReader) add(q Request) error {
	if len(t.requests) == maxTraceRequests {
		return fmt.Errorf("more than %d requests", maxTraceRequests)
	}
	t.requests = append(t.requests, q)
	return nil
}

// jsonLine is a request of the formats in JSON Lines.
type jsonLine struct {
	Timestamp *float64 `json:"timestamp"`
	Input     *int     `json:"input_length"`
	Output    *int     `json:"output_length"`
	Blocks    []int64  `json:"hash_ids"`
	Chat      *float64 `json:"chat_id"` // Bailian's alone
}

func (t *traceReader) jsonLines(line []byte) (format string, err error) {
	format = Mooncake
	perSecond := 1000.0
	for line != nil {
		var q jsonLine
		if err := json.Unmarshal(line, &q); err != nil {
			return format, err
		}
		if len(t.requests) == 0 {
			block := mooncakeBlock
			if q.Chat != nil {
				format, perSecond, block = Bailian, 1, bailianBlock
			}
			if t.block == 0 {
				t.block = block
			}
		}
		if err := t.addJSON(&q, perSecond); err != nil {
			return format, err
		}
		if line, err = t.next(); err != nil {
			return format, err
		}
	}
	return format, nil
}

func (t *traceReader) addJSON(q *jsonLine, perSecond float64) error {
	switch {
	case q.Timestamp == nil:
		return errors.New("timestamp: missing")
	case math.Abs(*q.Timestamp) > maxTraceSeconds*perSecond:
		return fmt.Errorf("timestamp: %v is out of range", *q.Timestamp)
	}
	for _, n := range []struct {
		field string
		value *int
	}{{"input_length", q.Input}, {"output_length", q.Output}} {
		switch {
		case n.value == nil:
			return fmt.Errorf("%s: missing", n.field)
		case *n.value < 0 || *n.value > maxTraceTokens:
			return fmt.Errorf("%s: %d is out of range", n.field, *n.value)
		}
	}
	// The last block may go unnamed where it is not full.
	if n := len(q.Blocks); n > 0 && n != *q.Input/t.block && n != (*q.Input+t.block-1)/t.block {
		return fmt.Errorf("hash_ids: %d for an input of %d tokens, which has %d blocks of %d: are the blocks of another size?", n, *q.Input, (*q.Input+t.block-1)/t.block, t.block)
	}
	if t.blocks += len(q.Blocks); t.blocks > maxTraceBlocks {
		return fmt.Errorf("hash_ids: more than %d in all", maxTraceBlocks)
	}
	return t.add(Request{Arrival: *q.Timestamp / perSecond, Input: *q.Input, Output: *q.Output, Blocks: q.Blocks})
}

// traceFormat is a CSV format: the columns of arrival, input and output, and
// how the arrival reads.
type traceFormat struct {
	name                   string
	arrival, input, output string
	seconds                func(text string) (float64, error)
}

var traceFormats = []traceFormat{
	{Azure, "TIMESTAMP", "ContextTokens", "GeneratedTokens", dateSeconds},
	{BurstGPT, "Timestamp", "Request tokens", "Response tokens", plainSeconds},
	{Vidur, "arrived_at", "num_prefill_tokens", "num_decode_tokens", plainSeconds},
}

// columns returns where the format's three columns stand in a head line.
func (f *traceFormat) columns(head []byte) (c [3]int, ok bool) {
	names := bytes.Split(head, []byte(","))
	for i, want := range []string{f.arrival, f.input, f.output} {
		c[i] = slices.IndexFunc(names, func(b []byte) bool { return cell(b) == want })
		if c[i] < 0 {
			return c, false
		}
	}
	return c, true
}

// cell is the text of a CSV cell: none of the formats quotes a comma.
func cell(b []byte) string { return strings.Trim(string(bytes.TrimSpace(b)), `"`) }

func (t *traceReader) csv(f traceFormat, columns [3]int) error {
	last := slices.Max(columns[:])
	var cells [][]byte
	for {
		line, err := t.next()
		if line == nil {
			return err
		}
		cells = cells[:0]
		for rest, more := line, true; more; {
			var c []byte
			c, rest, more = bytes.Cut(rest, []byte(","))
			cells = append(cells, c)
		}
		if len(cells) <= last {
			return fmt.Errorf("%d columns, %d are needed", len(cells), last+1)
		}
		var q Request
		if q.Arrival, err = f.seconds(cell(cells[columns[0]])); err != nil {
			return fmt.Errorf("%s: %w", f.arrival, err)
		}
		if q.Input, err = tokens(cell(cells[columns[1]])); err != nil {
			return fmt.Errorf("%s: %w", f.input, err)
		}
		if q.Output, err = tokens(cell(cells[columns[2]])); err != nil {
			return fmt.Errorf("%s: %w", f.output, err)
		}
		if err := t.add(q); err != nil {
			return err
		}
	}
}

// tokens reads a count, also where it is written as 374.0.
func tokens(text string) (int, error) {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || x != math.Trunc(x) || x < 0 || x > maxTraceTokens {
		return 0, fmt.Errorf("%.40q is no count from 0 to %d", text, maxTraceTokens)
	}
	return int(x), nil
}

func plainSeconds(text string) (float64, error) {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(x) <= maxTraceSeconds) {
		return 0, fmt.Errorf("%.40q is no time in seconds", text)
	}
	return x, nil
}

// traceEpoch keeps the seconds of a date small enough that none of its digits
// is lost.
var traceEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

func dateSeconds(text string) (float64, error) {
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05Z07:00", time.RFC3339} {
		if d, err := time.Parse(layout, text); err == nil {
			return d.Sub(traceEpoch).Seconds(), nil
		}
	}
	return 0, fmt.Errorf("%.40q is no time like 2023-11-16 18:17:03.97", text)
}
