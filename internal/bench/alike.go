package bench

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
)

// What a search costs depends first of all on how many matches it shows, and in more data more values have a full page of
// them. To tell whether it depends on the data beside, each scale is asked for values with as many matches as the others.

const (
	// valuesTried is how many values of a shape are tried at each scale.
	valuesTried = 400
	// fewestAlike is how many of them must have a number of matches so that it is asked for.
	fewestAlike = 4
)

// fills are the values of a shape at one scale by how many matches they have on the page: each is the seed that makes it.
type fills map[int][]int

// fills tries the values of a shape.
func (c *contender) fills(ctx context.Context) (fills, error) {
	f := fills{}
	for seed := range valuesTried {
		r := c.make(random(seed))
		body, err := send(ctx, c.process.base, r)
		if err == nil {
			err = r.check(body)
		}
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
		}
		n := matchesIn(body)
		f[n] = append(f[n], seed)
	}
	return f, nil
}

func matchesIn(body []byte) int { return bytes.Count(body, []byte(`"mode":"match"`)) }

// alike are the numbers of matches that all scales have values with, each as often as the last scale has it.
func alike(scales []fills) (numbers []int) {
	last := scales[len(scales)-1]
	for n, values := range last {
		if !slices.ContainsFunc(scales, func(f fills) bool { return len(f[n]) < fewestAlike }) {
			numbers = append(numbers, slices.Repeat([]int{n}, len(values))...)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// asking makes requests of a shape with values of a scale that have those numbers of matches.
func asking(numbers []int, of fills, ask func(*rand.Rand) request) func(*rand.Rand) request {
	return func(r *rand.Rand) request { return ask(random(pick(r, of[pick(r, numbers)]))) }
}

// alike lets the contenders ask for values with equally many matches: one for each scale, then, for the first scale, the
// ceiling. Where a scale has nothing like the last one they ask for any.
func (r *report) alike(ctx context.Context, name string, contenders []contender, scales int) error {
	if scales < 2 {
		return nil
	}
	all := make([]fills, scales)
	for i := range all {
		var err error
		if all[i], err = contenders[i].fills(ctx); err != nil {
			return err
		}
	}
	numbers := alike(all)
	switch share := 100 * len(numbers) / valuesTried; {
	case share == 0:
		r.note("%s: no number of matches occurs at all scales; any values are asked for.", name)
		return nil
	case share < 95:
		r.note("%s: of the values at the largest scale %d %% have as many matches as some at the others, and are asked for.", name, share)
	}
	for i := range contenders {
		contenders[i].make = asking(numbers, all[i%scales], contenders[i].make)
	}
	return nil
}
