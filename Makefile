# The tasks of this repository. To use another interpreter: make demo PYTHON=python3.13
PYTHON ?= python3
# .venv belongs to one interpreter and one folder; this number stands for both.
KEY := $(shell $(PYTHON) -c 'import os, sys, zlib; sys.version_info >= (3, 11) and print(zlib.crc32(repr((sys.version, sys.base_prefix, os.getcwd())).encode()))' 2>/dev/null)
ifeq ($(KEY),)
$(error Postroom needs Python 3.11 or newer, and $(PYTHON) is missing or older; name another one: make demo PYTHON=python3.11)
endif
VENV := .venv/made-$(KEY)
COMMA := ,
BROWSER := $(if $(CI)$(shell command -v chromium || command -v chromium-browser || command -v google-chrome),$(COMMA)browser)
ZIZMOR := --offline --quiet --no-progress --strict-collection --persona=pedantic
WORKFLOWS := action.yml $(wildcard .github/workflows/*.yml docs/workflows/*.yml)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
.PHONY: demo test lint proofs
# Two targets must not set up .venv at once.
.NOTPARALLEL:

demo: $(VENV)-demo
	@.venv/bin/postroom build
	@email=$$(ls public/digest/*/email.html 2>/dev/null | tail -n 1); \
	echo "Open public/index.html, or subscribe to public/atom.xml$${email:+; the newest digest email is $$email}."

# More arguments for pytest: make test ARGS="-k feed"
test: $(VENV)-test$(BROWSER)
	@.venv/bin/python -m pytest -n auto --dist worksteal -m "not slow" $(ARGS)

proofs: $(VENV)-test$(BROWSER)
	@.venv/bin/python -m pytest -n auto --dist worksteal -m slow $(ARGS)

# Every checker runs, also after one has failed. mypy needs the browser's package for its types.
lint: $(VENV)-test,browser,lint
	@code=0; set -x; .venv/bin/ruff check . || code=1; .venv/bin/ruff format --check . || code=1; \
	.venv/bin/mypy src tests benchmarks action.py || code=1; .venv/bin/lint-imports || code=1; \
	.venv/bin/zizmor $(ZIZMOR) $(WORKFLOWS) || code=1; exit $$code

# The name after the number lists the extras; each list holds those before it. While pip runs,
# $(VENV) has another name: after a set-up that was killed, .venv is made anew.
$(VENV)-%: $(VENV) pyproject.toml constraints.txt
	@echo "Setting up .venv; this takes a moment, and only now ..." >&2; \
	mv $(VENV) .venv/unfinished; code=0; \
	.venv/bin/python -m pip install -q -c constraints.txt -e "$(if $(filter demo,$*),.,.[$*])" >&2 || code=$$?; \
	[ $$code -gt 128 ] || mv .venv/unfinished $(VENV); [ $$code -eq 0 ] || exit $$code; \
	for extras in demo test test,browser test,browser,lint; do \
	touch $(VENV)-$$extras; [ $$extras != "$*" ] || break; done

# Debian without python3-venv has no ensurepip; there pip itself can install pip.
$(VENV):
	@base=$$($(PYTHON) -c 'import sys; print(sys._base_executable)'); \
	if "$$base" -c 'import ensurepip' 2>/dev/null; then "$$base" -m venv --clear .venv; \
	elif "$$base" -c 'import pip' 2>/dev/null; then "$$base" -m venv --clear --without-pip .venv && \
	"$$base" -m pip --python .venv/bin/python install -q -U pip; \
	else echo "$$base has neither ensurepip nor pip; install one: apt install python3-venv" >&2; exit 2; fi
	@touch $@
