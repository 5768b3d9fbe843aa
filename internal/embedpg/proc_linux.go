package embedpg

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent has the kernel ask the process for a fast shutdown when this one ends, however it ends.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGINT }

// isPostmaster says whether pid is a live process that works in the cluster's folder, as a postmaster does. sure is
// false when that cannot be told, because the process is another user's.
func isPostmaster(pid int, cluster string) (is, sure bool) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false, os.IsNotExist(err)
	}
	if i := bytes.LastIndexByte(stat, ')'); i >= 0 && i+2 < len(stat) && (stat[i+2] == 'Z' || stat[i+2] == 'X') {
		return false, true // dead, and nobody has asked after it
	}
	there, err := os.Stat(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return false, os.IsNotExist(err)
	}
	here, err := os.Stat(cluster)
	return err == nil && os.SameFile(here, there), err == nil
}
