// Package pages holds the pages with pictures that commands write with --html: each
// is one file that needs nothing else.
package pages

import (
	"bytes"
	"embed"
	"html/template"
)

//go:embed page*.html
var pageFiles embed.FS

var pages = template.Must(template.ParseFS(pageFiles, "page*.html"))

// Render is a page of the template of that name.
func Render(name string, data any) ([]byte, error) {
	// Parts that begin in one context and end in another are escaped for each page
	// anew: what is kept of an earlier page does not fit.
	own, err := pages.Clone()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = own.ExecuteTemplate(&b, name, data)
	return b.Bytes(), err
}

// Card is one figure at the top of the page.
type Card struct{ Label, Value, Note string }

// NewCard is a figure with its label and a note.
func NewCard(label, value, note string) Card { return Card{label, value, note} }

// MaxCells bounds the cells of one heat map.
const MaxCells = 80_000
