package formats

import "strconv"

// appendInts writes [1, 2, 3].
func appendInts(b []byte, row []int) []byte {
	b = append(b, '[')
	for i, v := range row {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(v), 10)
	}
	return append(b, ']')
}

// appendRows writes rows one a line, with commas between them.
func appendRows(b []byte, rows [][]int) []byte {
	for l, row := range rows {
		if l > 0 {
			b = append(b, ',')
		}
		b = appendInts(append(b, '\n'), row)
	}
	return b
}
