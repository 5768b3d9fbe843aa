# Kiln's commands, for people and for CI alike.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The race detector needs a C compiler; a machine without one tests without it.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
TEST_FLAGS ?=
FUZZTIME ?= 10s
BENCH ?= .
DATA_DIR := $(or $(KILN_DATA_DIR),data)

.PHONY: help build run test lint fmt generate verify bench fuzz db/reset clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/kiln
	go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/kiln ./cmd/kiln

run: build ## build, then serve on http://localhost:8080/fhir with a PostgreSQL of its own in ./data
	exec bin/kiln serve --seed

test: ## run every test; they start the PostgreSQL they need
	go test $(RACE) -timeout 20m $(TEST_FLAGS) ./...

lint: ## check the format, and look for mistakes (go vet, staticcheck)
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
	if [[ -n $$unformatted ]]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	go run $(STATICCHECK) ./...

fmt: ## format the code
	gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

generate: ## make the generated files again
	go run ./internal/gen
	go generate ./...

verify: ## fail if a generated file is not what its generator makes
	go run ./internal/gen -check
	go generate ./...
	git diff --exit-code -- '*.gen.go' '*zz_generated_*' conformance/definitions

bench: ## run the benchmarks (BENCH=name for some)
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

fuzz: ## run every fuzz target for a moment (FUZZTIME=1m for longer)
	@for dir in $$(git grep --untracked -l '^func Fuzz' -- '*_test.go' | xargs -r -n1 dirname | sort -u); do \
		for target in $$(go test -list '^Fuzz' ./$$dir | grep '^Fuzz'); do \
			echo "== $$dir $$target"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) ./$$dir; \
		done; \
	done

db/reset: ## delete the database in ./data
	@if pid=$$(cat '$(DATA_DIR)/kiln.lock' 2>/dev/null) && kill -0 $$pid 2>/dev/null && [[ $$(ps -o comm= -p $$pid) == kiln ]]; then \
		echo "Kiln (process $$pid) uses $(DATA_DIR): stop it first"; exit 1; fi
	rm -rf -- '$(DATA_DIR)'/{postgres,postgres.new,run,kiln.lock} '$(DATA_DIR)'/postgres.log*

clean: ## delete what was built
	rm -rf bin
