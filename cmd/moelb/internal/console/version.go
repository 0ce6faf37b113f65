package console

import (
	"runtime/debug"
)

// release is the version that this source is on the way to.
const release = "v0.1.0-dev"

// Version is the module's version as the Go tool recorded it; of a build from a
// source tree, the release it is on the way to, and the commit where it is known.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "moelb " + release
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return "moelb " + v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "moelb " + release + "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "moelb " + release
}
