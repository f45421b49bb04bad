"""Files that are named like secrets: left out by name, never opened."""

from __future__ import annotations

import re

from sordino_client.corpus.globs import any_of

_NAMES = any_of(
    """.env .env.* *.env .envrc .flaskenv id_rsa* id_dsa* id_ecdsa* id_ed25519* *.pem *.key *.p8 *.p12 *.pfx *.pkcs12
    *.jks *.keystore *.truststore *.bks *.kdb *.kdbx *.ppk *.asc *.gpg *.pgp *.agekey *.ovpn *.mobileprovision
    .netrc _netrc .pgpass .my.cnf .npmrc .yarnrc.yml .pypirc .gem_credentials .htpasswd .htdigest htpasswd .boto
    .s3cfg .git-credentials .dockercfg .dockerconfigjson kubeconfig *.kubeconfig credentials credentials.*
    .credentials* secret secrets secret.* secrets.* *.secret *.secrets *-secret.y*ml *-secrets.y*ml *.secret.y*ml
    *.secrets.y*ml service-account*.json service_account*.json client_secret*.json *.tfstate *.tfstate.* *.tfvars
    *.tfvars.json master.key *.wallet wallet.dat .vault-token .vault_pass* vault_pass* *.rdp .*_history
    wp-config.php local_settings.py application-local.* application-prod.* appsettings.*.json"""
)
# Source files called `secrets.py` or `Credentials.java` are read, and their text is scanned. The two files of
# `_SETTINGS` are left out all the same.
_SOURCE = any_of(
    """*.py *.pyi *.java *.kt *.kts *.go *.rs *.c *.h *.cc *.cpp *.hpp *.cs *.rb *.js *.jsx *.ts *.tsx *.mjs *.cjs
    *.swift *.scala *.ex *.exs *.erl *.lua *.ml *.hs"""
)
_SETTINGS = frozenset({"local_settings.py", "wp-config.php"})
_DIRECTORIES = any_of(
    ".ssh .aws .azure .gnupg .kube .docker .gcloud .password-store .terraform.d .chef .subversion .secrets"
)
# Half of these pairs is public.
_PUBLIC = re.compile(r"id_(?:rsa|dsa|ecdsa|ed25519)[^.]*\.pub")


def is_secret_name(path: str) -> bool:
    """Whether a file is named as keys, credentials and shell histories are named."""
    name = path[path.rfind("/") + 1 :].lower()
    if _NAMES.fullmatch(name) is None or _PUBLIC.fullmatch(name) is not None:
        return False
    return name in _SETTINGS or _SOURCE.fullmatch(name) is None


def is_secret_directory(path: str) -> bool:
    """Whether a directory is one in which a program keeps credentials."""
    return _DIRECTORIES.fullmatch(path[path.rfind("/") + 1 :].lower()) is not None
