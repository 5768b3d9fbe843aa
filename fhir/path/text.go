package path

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"html"
	"strings"
	"unicode/utf8"
)

// textFunc runs f on the input text, when there is one.
func (c *ctx) textFunc(x *call, mark int, f func(s string) error) error {
	s, ok, err := c.oneText(x, mark)
	if err != nil || !ok {
		c.stack = c.stack[:mark]
		return err
	}
	if err := c.step(len(s) / 64); err != nil {
		return err
	}
	return f(s)
}

// textPair runs f on the input text and the first argument, when there are both.
func (c *ctx) textPair(x *call, mark int, f func(s, arg string) error) error {
	s, ok, err := c.oneText(x, mark)
	if err != nil {
		return err
	}
	arg, ok2, err := c.textArg(x.args[0])
	if err != nil || !ok || !ok2 {
		c.stack = c.stack[:mark]
		return err
	}
	if err := c.step(1 + len(s)/64); err != nil {
		return err
	}
	return f(s, arg)
}

func fnIndexOf(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, arg string) error { return c.position(mark, s, strings.Index(s, arg)) })
}

func fnLastIndexOf(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, arg string) error { return c.position(mark, s, strings.LastIndex(s, arg)) })
}

// position turns a byte offset into a count of characters.
func (c *ctx) position(mark int, s string, at int) error {
	if at > 0 {
		at = utf8.RuneCountInString(s[:at])
	}
	return c.result(mark, intElement(int64(at)))
}

func fnStartsWith(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, arg string) error { return c.bool(mark, strings.HasPrefix(s, arg)) })
}

func fnEndsWith(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, arg string) error { return c.bool(mark, strings.HasSuffix(s, arg)) })
}

func fnContains(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, arg string) error { return c.bool(mark, strings.Contains(s, arg)) })
}

func fnUpper(c *ctx, x *call, mark int) error {
	return c.textFunc(x, mark, func(s string) error { return c.text(mark, strings.ToUpper(s)) })
}

func fnLower(c *ctx, x *call, mark int) error {
	return c.textFunc(x, mark, func(s string) error { return c.text(mark, strings.ToLower(s)) })
}

func fnTrim(c *ctx, x *call, mark int) error {
	return c.textFunc(x, mark, func(s string) error { return c.text(mark, strings.TrimSpace(s)) })
}

func fnLength(c *ctx, x *call, mark int) error {
	return c.textFunc(x, mark, func(s string) error {
		return c.result(mark, intElement(int64(utf8.RuneCountInString(s))))
	})
}

func fnToChars(c *ctx, x *call, mark int) error {
	return c.textFunc(x, mark, func(s string) error {
		if err := c.step(16 * len(s)); err != nil {
			return err
		}
		c.stack = c.stack[:mark]
		for _, r := range s {
			c.push(Text(string(r)))
		}
		return nil
	})
}

func fnSubstring(c *ctx, x *call, mark int) error {
	s, ok, err := c.oneText(x, mark)
	if err != nil {
		return err
	}
	start, ok2, err := c.integerArg(x.args[0])
	if err != nil || !ok || !ok2 {
		c.stack = c.stack[:mark]
		return err
	}
	length := int64(len(s))
	if len(x.args) == 2 {
		n, given, err := c.integerArg(x.args[1])
		if err != nil {
			return err
		}
		if given {
			length = max(n, 0)
		}
	}
	if start < 0 || start >= int64(utf8.RuneCountInString(s)) {
		return c.none(mark)
	}
	for ; start > 0; start-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	end := 0
	for ; length > 0 && end < len(s); length-- {
		_, size := utf8.DecodeRuneInString(s[end:])
		end += size
	}
	return c.text(mark, s[:end])
}

func fnReplace(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, pattern string) error {
		by, ok, err := c.textArg(x.args[1])
		if err != nil || !ok {
			c.stack = c.stack[:mark]
			return err
		}
		n := strings.Count(s, pattern)
		if len(s)+n*len(by) > MaxText {
			return errText()
		}
		if pattern == "" { // before every character and, as the suite has it, at the end
			return c.text(mark, strings.ReplaceAll(s, "", by))
		}
		return c.text(mark, strings.ReplaceAll(s, pattern, by))
	})
}

func fnMatches(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, pattern string) error {
		re, err := c.regex(x, s, pattern)
		if err != nil {
			return err
		}
		return c.bool(mark, re.MatchString(s))
	})
}

func fnReplaceMatches(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, pattern string) error {
		by, ok, err := c.textArg(x.args[1])
		if err != nil || !ok {
			c.stack = c.stack[:mark]
			return err
		}
		if pattern == "" {
			return c.text(mark, s)
		}
		re, err := c.regex(x, s, pattern)
		if err != nil {
			return err
		}
		if (len(s)+1)*len(by) > MaxText && len(s)+len(re.FindAllStringIndex(s, -1))*(len(by)+len(s)) > MaxText {
			return errText()
		}
		return c.text(mark, re.ReplaceAllString(s, by))
	})
}

func fnSplit(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, sep string) error {
		c.stack = c.stack[:mark]
		if err := c.step(16 * (strings.Count(s, sep) + 1)); err != nil {
			return err
		}
		parts := strings.Split(s, sep)
		for _, part := range parts {
			c.push(Text(part))
		}
		return nil
	})
}

func fnJoin(c *ctx, x *call, mark int) error {
	sep := ""
	if len(x.args) == 1 {
		s, _, err := c.textArg(x.args[0])
		if err != nil {
			return err
		}
		sep = s
	}
	var b strings.Builder
	for i, e := range c.stack[mark:] {
		s, ok := e.str()
		if !ok {
			return failf("join() works on texts, not on a %s", e.TypeName())
		}
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(s)
		if b.Len() > MaxText {
			return errText()
		}
	}
	return c.text(mark, b.String())
}

func fnEncode(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, format string) error {
		switch format {
		case "hex":
			return c.text(mark, hex.EncodeToString([]byte(s)))
		case "base64":
			return c.text(mark, base64.StdEncoding.EncodeToString([]byte(s)))
		case "urlbase64":
			return c.text(mark, base64.URLEncoding.EncodeToString([]byte(s)))
		}
		return failf("encode() knows hex, base64 and urlbase64")
	})
}

func fnDecode(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, format string) error {
		var b []byte
		var err error
		switch format {
		case "hex":
			b, err = hex.DecodeString(s)
		case "base64":
			b, err = base64.StdEncoding.DecodeString(s)
		case "urlbase64":
			b, err = base64.URLEncoding.DecodeString(s)
		default:
			return failf("decode() knows hex, base64 and urlbase64")
		}
		if err != nil || !utf8.Valid(b) {
			return c.none(mark)
		}
		return c.text(mark, string(b))
	})
}

var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

func fnEscape(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, format string) error {
		switch format {
		case "html":
			return c.text(mark, escapeHTML.Replace(s))
		case "json":
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(s); err != nil {
				return c.none(mark)
			}
			quoted := strings.TrimSuffix(b.String(), "\n")
			return c.text(mark, quoted[1:len(quoted)-1])
		}
		return failf("escape() knows html and json")
	})
}

func fnUnescape(c *ctx, x *call, mark int) error {
	return c.textPair(x, mark, func(s, format string) error {
		switch format {
		case "html":
			return c.text(mark, html.UnescapeString(s))
		case "json":
			var out string
			if json.Unmarshal([]byte(`"`+s+`"`), &out) != nil {
				out = s // nothing in it was escaped
			}
			return c.text(mark, out)
		}
		return failf("unescape() knows html and json")
	})
}
