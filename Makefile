# Another interpreter than python3: make demo PYTHON=python3.13
PYTHON ?= python3

.PHONY: demo test lint proofs
# All share one .venv, which two must not set up at once.
.NOTPARALLEL:

demo lint:
	@$(PYTHON) run.py $@

# More words for pytest: make test ARGS="-k feed"
test proofs:
	@$(PYTHON) run.py $@ $(ARGS)
