# Kiln's commands, for people and for CI alike.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
# The race detector needs a C compiler; a machine without one tests without it.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
# What does one thing after another is tested without it: with it, what calculates takes eight times the processor time, and
# would find nothing, as what it calls is tested with it elsewhere, by many at once too. What is new is tested with it.
SEQUENTIAL_PACKAGES := cmd/kiln-protobuf internal/leak
SEQUENTIAL_TESTS := TestDefinitions_are_loaded_once_and_anew_when_they_are_others|TestHostileInputIsBounded|TestOfficialExamplesAreValid|TestR4DefinitionsFitItsExtensions|TestReadRefuses|TestSearch_finds_the_official_examples|TestSearch_is_what_the_oracle_says|TestSearch_of_callers|TestUSCoreConformanceResourcesAreValid|TestUSCoreInstalls
TEST_FLAGS ?=
# What is built for one target serves the next: all with the flags of the program that is handed out.
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)
FUZZTIME ?= 10s
# The documents that fuzz/api goes through, and how many examples of a call it makes up in each phase.
API_DOCUMENTS ?= system Patient Appointment Observation ValueSet Bundle StructureDefinition
API_EXAMPLES ?= 5
SCHEMATHESIS := schemathesis==4.32.5 openapi-spec-validator==0.8.4
BENCH ?= .
DATA_DIR := $(or $(KILN_DATA_DIR),data)

.PHONY: help build run test lint fmt generate verify bench fuzz fuzz/api db/reset clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/kiln
	go build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/kiln ./cmd/kiln

run: build ## build, then serve on http://localhost:8080/fhir with a PostgreSQL of its own in ./data
	exec bin/kiln serve --seed

test: ## run every test; they start the PostgreSQL they need
ifeq ($(RACE),)
	go test -timeout 20m $(TEST_FLAGS) ./...
else
	@status=0; set -x; \
	go test -timeout 20m $(TEST_FLAGS) $(addprefix ./,$(SEQUENTIAL_PACKAGES)) || status=1; \
	go test -timeout 20m -run '^($(SEQUENTIAL_TESTS))$$' $(TEST_FLAGS) \
		$$(grep -rlE --include='*_test.go' '^func ($(SEQUENTIAL_TESTS))\(' . | xargs -n1 dirname | sort -u) || status=1; \
	go test $(RACE) -timeout 20m -skip '^($(SEQUENTIAL_TESTS))$$' $(TEST_FLAGS) \
		$$(go list ./... | grep -vxF $(patsubst %,-e kiln/%,$(SEQUENTIAL_PACKAGES))) || status=1; \
	exit $$status
endif

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

fuzz/api: build ## check the OpenAPI documents, and call what they describe, with programs of others (Python, from PyPI)
	@work=$$(mktemp -d); chmod 755 $$work; trap 'kill $$server 2>/dev/null && wait $$server; rm -rf $$work' EXIT; \
	python3 -m venv $$work/venv; $$work/venv/bin/pip install -q $(SCHEMATHESIS); \
	bin/kiln serve --auth=off --seed --data-dir $$work/data --addr 127.0.0.1:0 --log-level=error >$$work/out & server=$$!; \
	for _ in $$(seq 300); do grep -q 'ready in' $$work/out && break; kill -0 $$server; sleep 0.2; done; \
	origin=$$(grep -o 'http://[^ ]*' $$work/out); \
	for name in $(API_DOCUMENTS); do \
		echo "== $$name"; \
		curl -sf $${origin%/fhir}/swagger/openapi/$$name.json -o $$work/$$name.json; \
		$$work/venv/bin/openapi-spec-validator $$work/$$name.json; \
		(cd $$work; venv/bin/schemathesis run $$name.json --url $$origin --seed 1 --max-examples $(API_EXAMPLES) --phases examples,coverage,fuzzing \
			--suppress-health-check all --no-color --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,negative_data_rejection); \
	done

db/reset: ## delete the database in ./data
	@if pid=$$(cat '$(DATA_DIR)/kiln.lock' 2>/dev/null) && kill -0 $$pid 2>/dev/null && [[ $$(ps -o comm= -p $$pid) == kiln ]]; then \
		echo "Kiln (process $$pid) uses $(DATA_DIR): stop it first"; exit 1; fi
	rm -rf -- '$(DATA_DIR)'/{postgres,postgres.new,run,kiln.lock} '$(DATA_DIR)'/postgres.log*

clean: ## delete what was built
	rm -rf bin
