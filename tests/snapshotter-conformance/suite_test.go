// Package suite runs containerd's own conformance suite for snapshotters over gRPC against a
// snapshotter behind a unix socket.
//
//	SUITE_SOCKET=/path             one server for all tests; it must be empty
//	SUITE_COMMAND='S {root} {sock}'  a fresh server for every test
package suite

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

// The suite leaves out renaming a lower directory for snapshotters of this name, since an overlay
// cannot do it.
const kind = "overlayfs"

// Nothing here takes as long, however busy the machine.
const limit = 60 * time.Second

func connect(socket string) (*grpc.ClientConn, snapshots.Snapshotter, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn, err := grpc.DialContext(ctx, "unix://"+socket, grpc.WithBlock(), grpc.WithInsecure())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", socket, err)
	}
	return conn, proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "brisk"), nil
}

// removeAll removes every snapshot, leaves first, and gives the names of those that stay.
func removeAll(ctx context.Context, sn snapshots.Snapshotter) ([]string, error) {
	for {
		var names []string
		collect := func(_ context.Context, info snapshots.Info) error {
			names = append(names, info.Name)
			return nil
		}
		if err := sn.Walk(ctx, collect); err != nil {
			return nil, err
		}
		removed := 0
		for _, name := range names {
			if sn.Remove(ctx, name) == nil {
				removed++
			}
		}
		if removed == 0 {
			return names, nil
		}
	}
}

// nothingStays fails where snapshots cannot be removed.
func nothingStays(ctx context.Context, sn snapshots.Snapshotter) error {
	left, err := removeAll(ctx, sn)
	if err == nil && len(left) != 0 {
		err = fmt.Errorf("these snapshots cannot be removed: %v", left)
	}
	return err
}

type server struct {
	process *exec.Cmd
	socket  string
}

func start(command, root string) (*server, error) {
	directory, err := os.MkdirTemp("", "server-")
	if err != nil {
		return nil, err
	}
	s := &server{socket: filepath.Join(directory, "s")}
	line := strings.NewReplacer("{root}", root, "{sock}", s.socket).Replace(command)
	s.process = exec.Command("/bin/sh", "-c", "exec "+line)
	s.process.Stdout, s.process.Stderr = os.Stderr, os.Stderr
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	for started := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", s.socket); err == nil {
			return s, conn.Close()
		}
		if time.Since(started) > limit {
			return nil, fmt.Errorf("%s: nobody listens; %w", s.socket, s.stop())
		}
	}
}

func (s *server) stop() error {
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	killer := time.AfterFunc(limit, func() { _ = s.process.Process.Kill() })
	defer killer.Stop()
	return s.process.Wait()
}

func TestSnapshotter(t *testing.T) {
	command, socket := os.Getenv("SUITE_COMMAND"), os.Getenv("SUITE_SOCKET")
	ctx := namespaces.WithNamespace(context.Background(), "suite")
	if command == "" {
		_, sn, err := connect(socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Run("Shared", func(t *testing.T) {
			testsuite.SnapshotterSuite(t, kind, func(context.Context, string) (snapshots.Snapshotter, func() error, error) {
				return sn, nil, nil
			})
		})
		if err := nothingStays(ctx, sn); err != nil {
			t.Error(err)
		}
		return
	}
	testsuite.SnapshotterSuite(t, kind, func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		s, err := start(command, root)
		if err != nil {
			return nil, nil, err
		}
		conn, sn, err := connect(s.socket)
		if err != nil {
			return nil, nil, err
		}
		return sn, func() error {
			stays := nothingStays(ctx, sn)
			_ = conn.Close()
			if err := s.stop(); err != nil {
				return fmt.Errorf("the server's end: %w", err)
			}
			return stays
		}, nil
	})
}
