//go:build !linux

package embedpg

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// dieWithParent does nothing: only Linux tells a process that its parent ended. A server left behind by a killed Kiln is
// stopped by the next one.
func dieWithParent(*syscall.SysProcAttr) {}

// isPostmaster says whether pid is a live process called postgres. sure is always false when it is not.
func isPostmaster(pid int, cluster string) (is, sure bool) {
	out, err := exec.Command("ps", "-p", strconv.Itoa(pid), "-o", "comm=").Output()
	is = err == nil && strings.Contains(string(out), "postgres")
	return is, is
}
