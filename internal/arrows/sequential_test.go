package arrows

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the Makefile tests without the race detector has nothing for it to find: no goroutines of its own, neither in
// the package nor in its tests.
func TestSequentialPackages(t *testing.T) {
	t.Parallel()
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^SEQUENTIAL_PACKAGES := (.+)$`).FindSubmatch(makefile)
	if list == nil {
		t.Fatal("the Makefile names none")
	}
	for _, path := range strings.Fields(string(list[1])) {
		files, err := filepath.Glob(filepath.Join("../..", path, "*.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has no files, %v", path, err)
		}
		for _, name := range files {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for n := range ast.Preorder(file) {
				started := false
				switch n := n.(type) {
				case *ast.GoStmt:
					started = true
				case *ast.SelectorExpr: // as sync.WaitGroup and errgroup.Group have it
					started = n.Sel.Name == "Go"
				}
				if started {
					t.Errorf("%s starts a goroutine: test the package with the race detector", fset.Position(n.Pos()))
				}
			}
		}
	}
}
