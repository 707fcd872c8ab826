package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2/hpack"
)

const (
	block     = 16 << 20
	maxPlaces = 20 // named for each secret; all are counted
)

// formsOf gives value as it is, in hex, in base64 at its three alignments, and in
// the Huffman code of HPACK (RFC 7541) at its eight.
func formsOf(value string) [][]byte {
	forms := [][]byte{[]byte(value), []byte(hex.EncodeToString([]byte(value))), []byte(strings.ToUpper(hex.EncodeToString([]byte(value))))}
	for before := range 3 {
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", before) + value))
		// The characters at the ends also depend on what is around value.
		text = strings.TrimRight(text, "=")
		inner := text[(before*8+5)/6 : len(text)-1]
		forms = append(forms, []byte(inner), []byte(strings.NewReplacer("+", "-", "/", "_").Replace(inner)))
	}
	for before := range 8 { // characters of 5 bits
		text := hpack.AppendHuffmanString(nil, strings.Repeat("0", before)+value)
		forms = append(forms, text[(before*5+7)/8:len(text)-1])
	}
	slices.SortFunc(forms, bytes.Compare)
	return slices.CompactFunc(forms, bytes.Equal)
}

type searcher struct {
	needles []*needle
	buffer  []byte
	memory  int64 // bytes read
	disk    int64
	files   int
}

// look counts the secrets in r.
func (s *searcher) look(r io.Reader, kind, place string) (read int64, err error) {
	longest := 0
	for _, n := range s.needles {
		for _, form := range n.forms {
			longest = max(longest, len(form))
		}
	}
	if s.buffer == nil {
		s.buffer = make([]byte, block)
	}
	text := s.buffer[:0]
	for {
		n, err := io.ReadFull(r, text[len(text):block])
		text = text[:len(text)+n]
		read += int64(n)
		s.count(text, kind, place)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return read, nil
		case err != nil:
			return read, err
		}
		// What may be the beginning of a secret is looked at again with what follows.
		text = text[:copy(text, text[len(text)-longest+1:])]
	}
}

func (s *searcher) count(text []byte, kind, place string) {
	for _, n := range s.needles {
		for _, form := range n.forms {
			if !bytes.Contains(text, form) {
				continue
			}
			n.found[kind] += bytes.Count(text, form)
			if len(n.where) < maxPlaces && !slices.Contains(n.where, kind+" of "+place) {
				n.where = append(n.where, kind+" of "+place)
			}
		}
	}
}

// sandboxed gives the processes below pid that live in another PID namespace.
func sandboxed(pid int) ([]int, error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is well formed
	for _, file := range stats {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name before the fields is in parentheses (proc_pid_stat(5)).
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		parents[child], _ = strconv.Atoi(fields[1])
	}
	var found []int
	for child := range parents {
		ancestor := child
		for ancestor > 1 && ancestor != pid {
			ancestor = parents[ancestor]
		}
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", child))
		if ancestor == pid && err == nil && namespace != own {
			found = append(found, child)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("there is no sandbox below process %d", pid)
	}
	slices.Sort(found)
	return found, nil
}

func (s *searcher) process(pid int) error {
	proc := fmt.Sprintf("/proc/%d/", pid)
	arguments, err := os.ReadFile(proc + "cmdline")
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has ended
	}
	if err != nil {
		return err
	}
	program, _, _ := bytes.Cut(arguments, []byte{0})
	name := fmt.Sprintf("process %d (%s)", pid, program)
	s.count(arguments, "arguments", name)
	environment, err := os.ReadFile(proc + "environ")
	if err != nil {
		return err
	}
	s.count(environment, "environment", name)
	return s.mappings(proc, name)
}

// mappings reads the memory of a process, as far as there is something in it.
func (s *searcher) mappings(proc, name string) error {
	maps, err := os.ReadFile(proc + "maps")
	if err != nil {
		return err
	}
	memory, err := os.Open(proc + "mem")
	if err != nil {
		return err
	}
	defer memory.Close()
	pages, err := os.Open(proc + "pagemap")
	if err != nil {
		return err
	}
	defer pages.Close()
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		from, to, _ := strings.Cut(fields[0], "-")
		start, err1 := strconv.ParseInt(from, 16, 64)
		end, err2 := strconv.ParseInt(to, 16, 64)
		if fields[1][0] != 'r' || errors.Join(err1, err2) != nil {
			continue // not readable, or the vsyscall page, which is the kernel's
		}
		at := "anonymous memory"
		if len(fields) > 5 {
			at = fields[5]
		}
		for start < end {
			length := min(block, end-start)
			if present(pages, start, length) {
				read, err := s.look(io.NewSectionReader(memory, start, length), "memory", name+" at "+at)
				s.memory += read
				if err != nil && !errors.Is(err, syscall.EIO) {
					return fmt.Errorf("read the memory of %s: %w", name, err)
				}
			}
			// Overlap, so that a secret across two blocks is seen.
			if length == block {
				length -= 4096
			}
			start += length
		}
	}
	return nil
}

// present reports whether any page of a range is in memory or swap (proc_pid_pagemap(5)).
func present(pages io.ReaderAt, start, length int64) bool {
	entries := make([]byte, length/4096*8)
	n, _ := pages.ReadAt(entries, start/4096*8)
	for ; n >= 8; n -= 8 {
		if binary.NativeEndian.Uint64(entries[n-8:n])>>62 != 0 {
			return true
		}
	}
	return false
}

// disks reads the files that the processes can see, once for each view of the
// file system that there is among them.
func (s *searcher) disks(pids []int, since time.Time) error {
	seen := map[string]bool{}
	for _, pid := range pids {
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if err != nil || seen[namespace] {
			continue // it has ended, or another one has the same view
		}
		seen[namespace] = true
		if err := s.tree(pid, since); err != nil {
			return err
		}
	}
	return nil
}

func (s *searcher) tree(pid int, since time.Time) error {
	pseudo, err := pseudoFileSystems(pid)
	if err != nil {
		return err
	}
	root := fmt.Sprintf("/proc/%d/root", pid)
	return filepath.WalkDir(root+"/", func(path string, entry fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		switch {
		case err != nil && entry != nil && entry.IsDir():
			return fs.SkipDir // not for us to read, or gone
		case err != nil:
			return nil
		case entry.IsDir() && pseudo[name]:
			return fs.SkipDir
		case !entry.Type().IsRegular():
			return nil
		}
		info, err := entry.Info()
		if err != nil || changed(info).Before(since) {
			return nil
		}
		file, err := os.Open(path)
		if err != nil {
			return nil
		}
		defer file.Close()
		read, err := s.look(file, "disk", name)
		s.files++
		s.disk += read
		if err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EIO) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return nil
	})
}

// changed is when a file's content or attributes were last changed; unlike the
// time of modification a program can't set it.
func changed(info fs.FileInfo) time.Time {
	stat := info.Sys().(*syscall.Stat_t)
	return time.Unix(stat.Ctim.Unix())
}

// pseudoFileSystems are the mount points of what the kernel makes up.
func pseudoFileSystems(pid int) (map[string]bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	points := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		kind := fields[slices.Index(fields, "-")+1]
		switch kind {
		case "proc", "sysfs", "devpts", "devtmpfs", "cgroup", "cgroup2", "mqueue", "debugfs", "tracefs", "securityfs", "bpf", "binfmt_misc":
			points[fields[4]] = true
		}
	}
	return points, nil
}
