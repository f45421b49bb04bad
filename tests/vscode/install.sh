#!/bin/sh
# Installs what the editor test drives into FOLDER, once: code-server and playwright-core from npm, Chromium from Debian.
#   tests/vscode/install.sh FOLDER
# npm's install scripts are not run; of code-server's native modules only argon2 is needed, and built from source.
set -eu
folder=$1 version=4.100.3
command -v npm >/dev/null || { echo "error: npm is missing; on Debian: apt-get install npm (Node 20 or newer)"; exit 2; }
if ! command -v chromium >/dev/null; then
    [ "$(id -u)" = 0 ] || { echo "error: chromium is missing; as root: apt-get install chromium fonts-dejavu-core"; exit 2; }
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core
fi
[ -e "$folder/ready-$version" ] && exit 0
mkdir -p "$folder"
cd "$folder"
echo '{"name": "editor-under-test", "private": true}' > package.json
npm install --ignore-scripts --no-audit --no-fund "code-server@$version" playwright-core@1
(cd node_modules/code-server/lib/vscode && npm install --ignore-scripts --omit=dev --no-audit --no-fund)
(cd node_modules/code-server/lib/vscode/extensions && npm install --ignore-scripts --omit=dev --no-audit --no-fund)
npm_config_build_from_source=true npm rebuild argon2
touch "ready-$version"
