# Two commands do all the set-up: `make demo` and `make test`. They need make and Python 3.11 or newer.

PYTHON ?= python3
ADDRESS ?= 127.0.0.1:8000
VENV := .venv
BENCH := benchmarks/.venv
MANAGE := $(VENV)/bin/python testproject/manage.py
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check

# The interpreters of the matrix in tox.ini. pyenv hides its own until PYENV_VERSION names them; "system" keeps the
# others in sight.
VERSIONS := 3.11 3.12 3.13 3.14
PYENV := $(shell pyenv versions --bare 2>/dev/null | grep -E '^3\.1[1-4]\.[0-9]+$$' | tr '\n' ':')system
FOUND = $(eval FOUND := $(shell for version in $(VERSIONS); do \
	PYENV_VERSION=$(PYENV) python$$version -c '' 2>/dev/null && echo $$version; done; true))$(FOUND)
MISSING = $(filter-out $(FOUND),$(VERSIONS))
TOX = PYENV_VERSION=$(PYENV) $(VENV)/bin/tox run
# Two at a time, for what uses one core.
TOX_IN_PAIRS = PYENV_VERSION=$(PYENV) $(VENV)/bin/tox run-parallel --parallel 2 --parallel-live --parallel-no-spinner

# All tests run with the newest pair of Python and Django that is installed. The oldest pair leaves out the tests that
# are marked "slow"; one pair between them and the servers also leave out the files of "corners", which are the same on
# every database. Where SERVERS names a PostgreSQL, the pair between runs there and not on SQLite; where it names a
# MariaDB, the oldest pair does, and only its "corners" run on SQLite. The two servers share what is not about statements
# of databases, and of a test with many cases they and the corners run some: tests/corners.py says which. The other pairs
# wait for `make test-all`: this is to take minutes.
pair = py$(subst .,,$(1))-django$(2)
NEWEST = $(lastword $(FOUND))
OLDEST_PAIR = $(call pair,$(firstword $(FOUND)),52)
NEWEST_PAIR = $(if $(filter-out 3.11,$(NEWEST)),$(call pair,$(NEWEST),61),$(OLDEST_PAIR))
PAIRS = $(foreach version,$(FOUND),$(foreach django,52 $(if $(filter-out 3.11,$(version)),60 61),$(call pair,$(version),$(django))))
CORNERS = $(sort $(OLDEST_PAIR) $(NEWEST_PAIR))
OLDEST = $(filter-out $(NEWEST_PAIR),$(OLDEST_PAIR))
BETWEEN = $(filter-out $(CORNERS),$(PAIRS))
MIDDLE = $(or $(filter py312-django60,$(BETWEEN)),$(firstword $(BETWEEN)))
FAST = -- -m "not slow"
FAST_BETWEEN = -- -m "not slow" --files others
FAST_ON_SERVER = -- -m "server or not slow" --files others
FAST_CORNERS = -- -m "not slow" --files corners --cases 1/4 --numprocesses 2
SERVERS ?=
POSTGRESQL = $(firstword $(filter postgresql:%,$(SERVERS)))
MARIADB = $(firstword $(filter mysql:% mariadb:%,$(SERVERS)))
FAST_ON_POSTGRESQL = $(FAST_ON_SERVER) $(if $(MARIADB),--tests 1/2 --cases 1/3)
FAST_ON_MARIADB = $(FAST_ON_SERVER) $(if $(POSTGRESQL),--tests 2/2 --cases 2/3)
# The pair that runs on each server.
ON_POSTGRESQL = $(or $(MIDDLE),$(NEWEST_PAIR))
ON_MARIADB = $(or $(OLDEST),$(NEWEST_PAIR))
# What depends on neither Python nor the database runs in one environment each.
ONCE = lint package site $(if $(CHROMIUM),browser) $(NEIGHBOURS)
# To make an environment takes ten seconds: what needs a server's driver in a part has it in all of them.
NEIGHBOURS = $(if $(POSTGRESQL),neighbours_postgresql,neighbours)
ON_SQLITE = AUDIT_TEST_DATABASE_URL=sqlite://
SERVER = $(firstword $(subst :, ,$(AUDIT_TEST_DATABASE_URL)))
PARTS = once corners between $(if $(SERVER),server) projects
list = $(subst $() $(),$(comma),$(strip $(1)))

# What looks at the pages. Playwright's own browsers are not needed.
CHROMIUM = $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name) 2>/dev/null)))

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-database test-all benchmark docs pictures clean

help:  ## List these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-15s %s\n", $$1, $$2 }'

demo: $(VENV)/.installed  ## Replay twenty years of prices in the demo shop and print the reports
	@$(MANAGE) demo

serve: $(VENV)/.installed  ## Open the demo shop and its admin at http://127.0.0.1:8000/
	@test -f testproject/shop.sqlite3 || $(MANAGE) demo
	@$(MANAGE) migrate --verbosity 0
	@echo "The shop is at http://$(ADDRESS)/, its admin and the audit log at http://$(ADDRESS)/admin/."
	@$(MANAGE) demo_login
	@$(MANAGE) runserver $(ADDRESS)

test: $(VENV)/.tox  ## Run linters, type checker and tests: all on SQLite with the newest Python, the fast ones with two others, and on SERVERS="URL URL"
	@$(if $(FOUND),,echo "None of Python $(VERSIONS) was found by the name python3.x."; exit 1)
	@status=0; $(ON_SQLITE) $(TOX_IN_PAIRS) -e $(call list,$(ONCE)) || status=$$?; \
	$(TOX) -e $(NEWEST_PAIR) || status=$$?; \
	$(if $(OLDEST),$(if $(MARIADB),$(ON_SQLITE) $(TOX) -e $(ON_MARIADB)-mariadb $(FAST_CORNERS),$(TOX) -e $(OLDEST) $(FAST)) || status=$$?;) \
	$(if $(MARIADB),AUDIT_TEST_DATABASE_URL=$(MARIADB) $(TOX) -e $(ON_MARIADB)-mariadb $(FAST_ON_MARIADB) || status=$$?;) \
	$(if $(POSTGRESQL),AUDIT_TEST_DATABASE_URL=$(POSTGRESQL) $(TOX) -e $(ON_POSTGRESQL)-postgresql $(FAST_ON_POSTGRESQL) || status=$$?; \
		AUDIT_TEST_DATABASE_URL=$(POSTGRESQL) $(TOX) -e $(NEIGHBOURS) -- -k tenants || status=$$?;, \
		$(if $(MIDDLE),$(TOX) -e $(MIDDLE) $(FAST_BETWEEN) || status=$$?;)) \
	echo; echo "Tested: $(strip $(OLDEST) $(if $(POSTGRESQL),,$(MIDDLE)) $(NEWEST_PAIR)) on SQLite$(if $(MARIADB),$(comma) $(ON_MARIADB) on MariaDB)$(if $(POSTGRESQL),$(comma) $(ON_POSTGRESQL) on PostgreSQL)."; \
	$(if $(OLDEST),echo "Left out with $(OLDEST): the slow tests$(if $(MARIADB), that are not about databases$(comma) and three of four cases of those in tests/corners.py).";) \
	$(if $(MIDDLE),echo "Left out with $(MIDDLE): the slow tests$(if $(POSTGRESQL), that are not about databases)$(comma) and those of settings$(comma) pages and texts (tests/corners.py).";) \
	$(if $(and $(POSTGRESQL),$(MARIADB)),echo "Left out on each server: what the other one ran$(comma) unless it is about statements of databases$(comma) and half of the cases of those.";) \
	$(if $(filter-out $(MIDDLE),$(BETWEEN)),echo "Left out$(comma) because only make test-all tests them: $(strip $(filter-out $(MIDDLE),$(BETWEEN))).";) \
	$(if $(MISSING),echo "Left out$(comma) because not installed: Python $(MISSING).";) \
	$(if $(CHROMIUM),,echo "Left out$(comma) because Chromium is not installed: the pages in a browser. CONTRIBUTING.md tells how to.";) \
	$(if $(POSTGRESQL),,echo "Left out$(comma) because SERVERS names none: PostgreSQL. CONTRIBUTING.md tells how to start it.";) \
	$(if $(MARIADB),,echo "Left out$(comma) because SERVERS names none: MariaDB. CONTRIBUTING.md tells how to start it.";) \
	exit $$status

test-database: $(VENV)/.tox  ## Run the tests about databases on the server that AUDIT_TEST_DATABASE_URL names, with the newest Python
	@$(if $(AUDIT_TEST_DATABASE_URL),,echo "Set AUDIT_TEST_DATABASE_URL; CONTRIBUTING.md has examples."; exit 1)
	@$(TOX) -e $(NEWEST_PAIR)-$(SERVER) $(FAST_ON_SERVER); status=$$?; \
	$(if $(filter postgresql,$(SERVER)),$(TOX) -e neighbours_$(SERVER) -- -k tenants || status=$$?;) \
	echo "Left out on $(SERVER): slow tests not marked \"server\", and those of settings$(comma) pages and texts (tests/corners.py)."; \
	exit $$status

test-all: $(VENV)/.tox  ## Run everything at full length, in parts: make test-all-once, -corners, -between, -server, -projects
	@status=0; $(foreach part,$(PARTS),echo; echo "make test-all-$(part)"; $(MAKE) --no-print-directory test-all-$(part) || status=1;) \
	$(if $(SERVER),,echo "Left out$(comma) because AUDIT_TEST_DATABASE_URL names none: the tests on a server.";) \
	exit $$status

test-all-once: $(VENV)/.tox
	@AUDIT_TEST_THOROUGH=1 $(TOX_IN_PAIRS) -e $(call list,$(ONCE) importers)

test-all-corners: $(VENV)/.tox
	@AUDIT_TEST_THOROUGH=1 $(TOX) -e $(call list,$(CORNERS))

test-all-between: $(VENV)/.tox
	@$(if $(BETWEEN),AUDIT_TEST_DEVMODE=1 $(TOX) -e $(call list,$(BETWEEN) coverage))

test-all-server: $(VENV)/.tox
	@$(if $(SERVER),,echo "Set AUDIT_TEST_DATABASE_URL; CONTRIBUTING.md has examples."; exit 1)
	@AUDIT_TEST_THOROUGH=1 $(TOX) -e $(call list,$(addsuffix -$(SERVER),$(CORNERS)) neighbours_$(SERVER) importers_$(SERVER))

test-all-projects:
	@PYENV_VERSION=$(PYENV) python$(NEWEST) -m benchmarks.projects

benchmark: $(BENCH)/.installed  ## Measure what auditing costs beside plain Django and other packages, on SQLite and PostgreSQL
	@$(BENCH)/bin/python -m benchmarks
	@$(BENCH)/bin/python -m benchmarks.memory

docs: $(VENV)/.tox  ## Build the documentation into site/, and check its links
	@$(TOX) -e site

pictures: $(VENV)/.tox  ## Take the pictures of README anew, into docs/pictures/; needs Chromium
	@$(if $(CHROMIUM),,echo "Chromium is not installed. CONTRIBUTING.md says how to install it."; exit 1)
	@AUDIT_TEST_PICTURES=$(CURDIR)/docs/pictures $(TOX) -e browser -- -k test_pictures -p no:randomly

clean:  ## Remove the virtual environments, caches and the demo's data
	rm -rf $(VENV) $(BENCH) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* htmlcov dist build site
	rm -rf testproject/media testproject/mail testproject/shop.sqlite3*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

comma := ,

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed. Name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@echo "Making $(@D:/bin=) with $$($(PYTHON) --version)."
	@$(PYTHON) -m venv $(@D:/bin=) || { rm -rf $(@D:/bin=); exit 1; }

# The measured packages are pinned to the latest Django, which Python 3.11 does not run.
$(BENCH)/bin/python:
	@$(if $(filter-out 3.11,$(NEWEST)),,echo "The benchmark needs Python 3.12 or newer by the name python3.x."; exit 1)
	@echo "Making $(@D:/bin=) with Python $(NEWEST)."
	@PYENV_VERSION=$(PYENV) python$(NEWEST) -m venv $(@D:/bin=) || { rm -rf $(@D:/bin=); exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "Installing the package and what the demo needs."
	@$(PIP) --editable . pillow time-machine
	@touch $@

$(VENV)/.tox: | $(VENV)/bin/python
	@echo "Installing tox."
	@$(PIP) 'tox>=4.22'
	@touch $@

$(BENCH)/.installed: benchmarks/requirements.txt | $(BENCH)/bin/python
	@echo "Installing the packages that are measured."
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@
