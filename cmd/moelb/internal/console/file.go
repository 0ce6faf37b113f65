package console

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file in one stroke: into a temporary file in the same
// folder, flushed to the disk, and renamed. Whoever reads the path sees the
// old content or the new one, and on an error the old one stays. A link stays
// one, and where it leads is written. What is no regular file, such as
// /dev/stdout, is written as it is. An error names the flag that asked for it.
func WriteFile(flag, path string, content []byte) error {
	if err := write(path, content); err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			e.Path = path // not that of the file beside it, or that a link leads to
		}
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

func write(path string, content []byte) (err error) {
	mode := fs.FileMode(0o666)
	switch info, e := os.Stat(path); {
	case errors.Is(e, fs.ErrNotExist):
		if path, err = led(path); err != nil {
			return err
		}
	case e != nil:
		return e
	case info.IsDir():
		return &fs.PathError{Op: "write", Path: path, Err: errors.New("is a folder")}
	case !info.Mode().IsRegular():
		return os.WriteFile(path, content, 0)
	default:
		mode = info.Mode().Perm()
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return err
		}
	}
	f, err := createBeside(path, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// led is where links lead of which the last leads to nothing yet: nowhere else than
// path where that is no link.
func led(path string) (string, error) {
	for range 255 { // as many as systems follow, at most
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			folder, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			to = filepath.Join(folder, to)
		}
		path = to
	}
	return path, nil
}

// createBeside creates a file of a new name in path's folder. os.CreateTemp
// makes files that no other user can read.
func createBeside(path string, mode fs.FileMode) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	name := f.Name()
	if err := errors.Join(f.Close(), os.Remove(name)); err != nil {
		return nil, err
	}
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
}
