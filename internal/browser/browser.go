// Package browser drives a headless Chromium in tests: pages are tested with what people open them with.
package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// Browser is a Chromium with nothing in it.
type Browser struct {
	testing.TB
	Context context.Context

	mu         sync.Mutex
	complaints []string
}

// Step is one thing that somebody does in a browser.
type Step = chromedp.Action[chromedp.Void]

// Open starts a Chromium that ends with the test. Without one the test is skipped.
func Open(t testing.TB) *Browser {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("needs Chromium (apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1300, 1000), chromedp.WSURLReadTimeout(patience))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil { // starts it, and must not be under the time limit
		t.Fatal(err)
	}
	b := &Browser{TB: t}
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	b.Context = ctx
	return b
}

// patience is how long a step may take: what does not come until then never does. All steps of a test together may take
// longer on a machine that is busy.
const patience = 2 * time.Minute

// elementGone is what Chromium says of an element that was found in a page of before: nothing was done with it, and the page
// that comes has it, too, or the step takes too long.
const elementGone = "Could not find node with given id"

// Do does the steps one after the other. A step that fails tells what the page showed.
func (b *Browser) Do(steps ...Step) {
	b.Helper()
	for _, step := range steps {
		ctx, cancel := context.WithTimeout(b.Context, patience)
		err := chromedp.Do(ctx, step)
		for err != nil && strings.Contains(err.Error(), elementGone) && ctx.Err() == nil {
			err = chromedp.Do(ctx, step)
		}
		cancel()
		if err != nil {
			ctx, cancel := context.WithTimeout(b.Context, patience)
			defer cancel()
			where, _ := chromedp.Run(ctx, chromedp.Location())
			body, _ := chromedp.Run(ctx, chromedp.Text(CSS("body")))
			b.Fatalf("%v\nat %s:\n%.2000s", err, where, body)
		}
	}
}

// Window is the window that opens while work is done.
func (b *Browser) Window(work func()) *Browser {
	b.Helper()
	opened := chromedp.WaitNewTarget(b.Context, func(info *target.Info) bool { return info.Type == "page" })
	work()
	select {
	case id := <-opened:
		ctx, cancel := chromedp.NewContext(b.Context, chromedp.WithTargetID(id))
		b.Cleanup(cancel)
		if err := chromedp.Do(ctx); err != nil { // attaches to it, and must not be under the time limit
			b.Fatal(err)
		}
		return &Browser{TB: b.TB, Context: ctx}
	case <-time.After(patience):
		b.Fatal("no window was opened")
		return nil
	}
}

// Loaded waits until the page is there with all that belongs to it, such as its style: an element is visible before.
func Loaded() Step { return holds(`document.readyState === "complete"`) }

// Focused waits until what is typed goes to an element: a page that asks for that has it a moment after the element is visible.
func Focused(id string) Step { return holds(fmt.Sprintf(`document.activeElement.id === %q`, id)) }

// holds waits for a condition of the page, as long as a step may take.
func holds(condition string) Step {
	return chromedp.Poll[chromedp.Void](condition, chromedp.WithPollingTimeout(0))
}

// CSS is a selector.
func CSS(selector string) chromedp.CSS { return chromedp.CSS(selector) }

// Keep has an action's value for later.
func Keep[T any](into *T, a chromedp.Action[T]) Step {
	return chromedp.Func(func(ctx context.Context, at *chromedp.Target) (err error) {
		*into, err = a(ctx, at)
		return err
	})
}

// Picture keeps a screenshot for a person to look at, in the folder that KILN_SCREENSHOTS names.
func Picture(name string) Step {
	return chromedp.Func(func(ctx context.Context, at *chromedp.Target) error {
		dir := os.Getenv("KILN_SCREENSHOTS")
		if dir == "" {
			return nil
		}
		png, err := chromedp.FullScreenshot(100)(ctx, at)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	})
}

// Complaints are the errors of the console, what the policy of a page refused among them.
func (b *Browser) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.complaints
}

func (b *Browser) listen(event any) {
	text := ""
	switch e := event.(type) {
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError {
			text = e.Entry.Text
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			args, _ := json.Marshal(e.Args)
			text = string(args)
		}
	case *runtime.EventExceptionThrown:
		text = e.ExceptionDetails.Text
	}
	if text != "" {
		b.mu.Lock()
		b.complaints = append(b.complaints, text)
		b.mu.Unlock()
	}
}
