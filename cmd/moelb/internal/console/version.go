package console

import (
	"runtime/debug"
	"strings"

	"github.com/moelb/moelb"
)

// Version is the module's version as the Go tool recorded it; of a build from a
// source tree without a tag, the version of the source, and its commit where that
// is known.
func Version() string {
	const version = "moelb v" + moelb.Version
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	if v := info.Main.Version; v != "" && v != "(devel)" && !strings.HasPrefix(v, "v0.0.0-") {
		return "moelb " + v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return version + "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return version
}
