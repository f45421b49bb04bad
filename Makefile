# One-word commands, the same by hand and in CI. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
CHROMIUM = $(firstword $(foreach one,chromium chromium-browser google-chrome,$(shell command -v $(one) 2>/dev/null)))

.PHONY: help demo test provider test-all test-browser test-deploy check format docs lock proto wheel vsix test-vscode pictures clean

help:  ## Lists the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# torch is installed with its own dependencies, everything else exactly as locked.
$(VENV)/.ready: requirements/lock.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; run make PYTHON=python3.11"; exit 2; }
	@$(PYTHON) -m venv $(VENV) || { echo "error: the venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	$(PIP) install --quiet --upgrade 'pip>=24'
	grep -v '^torch==' requirements/lock.txt > $(VENV)/locked.txt
	$(PIP) install --quiet --no-deps -r $(VENV)/locked.txt
	$(PIP) install --quiet "$$(grep '^torch==' requirements/lock.txt)"
	$(PIP) install --quiet --no-deps --editable .
	@touch $@

demo: $(VENV)/.ready  ## Runs a whole federation on this machine, on real repositories
	$(BIN)/sordino demo

test: $(VENV)/.ready check  ## Runs the checks and the tests
	$(BIN)/python -m pytest -q -m 'not slow'

test-all: $(VENV)/.ready check provider  ## Runs the slow suites too, and those in a browser where there is a Chromium
	$(PIP) install --quiet --no-deps -r requirements/fuzz.txt -r requirements/pictures.txt
	$(BIN)/python -m pytest -q
	$(MAKE) docs
	@if [ -n "$(CHROMIUM)" ]; then $(MAKE) test-browser; \
	else echo "no Chromium: the console was not looked at (make test-browser)"; fi
	@if [ -n "$(CHROMIUM)" ] && command -v npm >/dev/null; then $(MAKE) test-vscode; \
	else echo "no Chromium or no npm: the editor was not tried (make test-vscode)"; fi

provider: .venv-provider/.ready  ## Installs the OpenID Connect provider that tests sign in with, apart from all else

.venv-provider/.ready: requirements/provider.txt
	$(PYTHON) -m venv .venv-provider
	.venv-provider/bin/pip --disable-pip-version-check install --quiet --no-deps -r requirements/provider.txt
	@touch $@

check: $(VENV)/.ready  ## ruff, mypy --strict, the floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready  ## Formats the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-deploy: $(VENV)/.ready  ## Checks deploy/ with the tools of Prometheus, systemd, Helm and Docker's linters
	@for tool in prometheus promtool amtool systemd-analyze; do command -v $$tool >/dev/null || { \
	  echo "error: $$tool is missing; on Debian: apt-get install prometheus prometheus-alertmanager systemd"; exit 2; }; done
	$(PIP) install --quiet --no-deps -r deploy/requirements.txt
	$(BIN)/python -m pytest -q -m deploy tests/ops

test-browser: $(VENV)/.ready provider docs  ## Looks at the console and the documentation site with Chromium: widths, accessibility, keyboard, live
	@[ -n "$(CHROMIUM)" ] || { \
	  echo "error: no Chromium; on Debian: apt-get install chromium"; exit 2; }
	$(PIP) install --quiet --no-deps -r requirements/browser.txt
	$(BIN)/python -m pytest -q -m browser tests/console

proto: $(VENV)/.ready  ## Generates the link's message classes from its .proto file
	$(BIN)/python -m grpc_tools.protoc -I platform --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --python_out=platform --mypy_out=platform platform/sordino_platform/wire/link_v1.proto

lock: $(VENV)/.ready  ## Resolves the dependencies anew into requirements/lock.txt
	PATH=$(BIN):$$PATH $(BIN)/python requirements/lock.py $(UPGRADE)

wheel: $(VENV)/.ready  ## Builds the wheel into dist/
	$(BIN)/python -m build --wheel --no-isolation

client/vscode/node_modules/.package-lock.json: client/vscode/package-lock.json
	@command -v npm >/dev/null || { echo "error: npm is missing; on Debian: apt-get install npm (Node 20 or newer)"; exit 2; }
	cd client/vscode && npm ci --ignore-scripts

vsix: client/vscode/node_modules/.package-lock.json  ## Builds the VS Code extension into client/vscode/dist/sordino.vsix
	cd client/vscode && npm run --silent package

sbom: $(VENV)/.ready  ## Writes the bill of materials (CycloneDX) into dist/
	$(PIP) install --quiet --no-deps -r deploy/requirements.txt
	@mkdir -p dist
	$(BIN)/cyclonedx-py environment --output-reproducible --short-PURLs --of JSON --pyproject pyproject.toml -o dist/sbom.json $(VENV)

docs: $(VENV)/.ready  ## Builds the documentation site into build/site, and checks its links
	$(PIP) install --quiet --no-deps -r requirements/docs.txt
	$(BIN)/python docs/site/build.py

release: $(VENV)/.ready  ## Makes a release of a clean tree in dist/: source, wheel, extension, sbom, provenance, checksums
	$(BIN)/python deploy/release.py

test-vscode: $(VENV)/.ready vsix  ## Tests the extension in a real VS Code in Chromium, with a real federation
	cd client/vscode && npm run --silent types && npm test --silent
	tests/vscode/install.sh build/vscode
	$(BIN)/python -m pytest -q -m vscode -p no:randomly tests/vscode

pictures: $(VENV)/.ready vsix  ## Films the real editor and the demo anew for the README
	$(PIP) install --quiet --no-deps -r requirements/pictures.txt
	$(BIN)/python -m pytest -q tests/federation/test_demo_filmed.py
	cp artefacts/demo/demo.gif docs/images/
	tests/vscode/install.sh build/vscode
	$(BIN)/python -m pytest -q -m vscode -p no:randomly tests/vscode/test_alone.py -k 'serves_by_itself or filmed'
	cp artefacts/vscode-alone/ghost-text.gif docs/images/

clean:  ## Removes the environment and what was built
	rm -rf $(VENV) dist build client/vscode/dist client/vscode/node_modules
