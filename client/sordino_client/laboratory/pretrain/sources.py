"""The public projects: those that train the base, those that act as members, and those that are held out.

The roles never mix. The `heldout` lists are for measuring only; weights, thresholds and settings are fitted on the
`tuning` lists, and nothing is reported on them; `MEMBERS` are the "proprietary" repositories of the federation
benchmark and the demo; `field` and `field-tuning` are projects of one field each, pinned by version and hash:
federations are measured on the first, and plans are searched on the second (`field.py`); `PUBLIC` holds permissive
licences only (each file's own header is checked again, see `clean.py`). Names are Debian source packages, or Python
distributions whose wheels are read as zip archives (a wheel carries the same sources as the sdist, and reading one runs
no foreign build script).

Files of Go and of JavaScript mostly have no header of their own, so their packages must name a permissive licence in
their copyright file, for the whole and for each file that is used (`copyright.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sordino_client.laboratory.pretrain.field import FIELD, PROXIES, Pinned
from sordino_privacy.errors import UsageError

Role = Literal[
    "heldout",
    "heldout-python",
    "tuning",
    "members",
    "field",
    "field-tuning",
    "heldout-go",
    "heldout-typescript",
    "tuning-base",
    "public",
]
Kind = Literal["debian", "wheel", "standard-library", "installed"]

ROLES: tuple[Role, ...] = get_args(Role)


def earlier_roles(role: Role) -> tuple[Role, ...]:
    """The roles that get a document before `role` does, so that nothing trains on what is measured.

    The field roles need no other role, because they are compared only with each other and with the base's training
    data. The lists of Go and TypeScript need none either, because no file can also be in the other lists. `tuning-base`
    is used, beside `tuning`, to fit the base's own training.
    """
    match role:
        case "field":
            return ()
        case "field-tuning":
            return ("field",)
        case "heldout-go" | "heldout-typescript":
            return ()
        case "tuning-base":
            return ("heldout-go", "heldout-typescript")
        case "public":
            return ROLES[:-1]
        case _:
            return ROLES[: ROLES.index(role)]


JAVA_AND_PYTHON = frozenset({"java", "python"})
GO = frozenset({"go"})
SCRIPT = frozenset({"javascript", "typescript"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One project, by the name under which a package client installs it. A wheel can also be pinned to one file.

    Only files in `languages` are read. `licensed`: its copyright file must name a permissive licence.
    """

    name: str
    kind: Kind
    role: Role
    pinned: Pinned | None = None
    languages: frozenset[str] = JAVA_AND_PYTHON
    licensed: bool = False


HELDOUT_JAVA = "commons-csv httpcomponents-core jetty9 jsoup"
HELDOUT_PYTHON = "attrs click httpx marshmallow"
TUNING_JAVA = "libcommons-compress-java libgoogle-gson-java"
TUNING_PYTHON = "paramiko poetry-core starlette"
MEMBERS_JAVA = "bouncycastle derby libpdfbox2-java libspring-java lucene8 netty openchemlib zookeeper"
PUBLIC_JAVA = """
activemq ant antlr4 apache-curator apache-directory-server apache-mime4j asm avro-java axis batik bcel bnd byte-buddy
castor commons-beanutils commons-configuration2 commons-dbcp2 commons-email commons-exec commons-io commons-math3
commons-pool2 commons-text commons-vfs disruptor dom4j dropwizard-metrics error-prone-java google-auto-value-java
google-flogger google-http-client-java gradle groovy grpc-java guava-libraries guice hikaricp hsqldb
httpcomponents-client ivy jackrabbit jackson-annotations jackson-core jackson-databind jakarta-jmeter janino jcommander
jctools jimfs jline3 jolokia knopflerfish-osgi libcommons-cli-java libcommons-codec-java libcommons-collections4-java
libcommons-jexl3-java libcommons-lang-java libcommons-lang3-java libcommons-net-java libcommons-validator-java
libfreemarker-java libjdom2-java libjoda-time-java libodfdom-java libokhttp-java libphonenumber libquartz2-java
libslf4j-java libxalan2-java libxerces2-java libxstream-java maven maven-javadoc-plugin maven-resolver maven-scm
maven-shade-plugin mina2 objenesis okio openjpa openrefine picocli rdf4j resteasy3.0 shiro snakeyaml surefire testng
tomcat10 uimaj velocity xmlbeans xmlgraphics-commons zxing
"""
# Python packages that the demo uses as members. They are read from this environment, only to keep them out of `public`.
MEMBERS_PYTHON = "flwr fonttools matplotlib networkx numpy pip pydantic ray rich scipy sqlalchemy sympy torch"
# BSD, MIT or Apache-2.0, none of them a member's.
PUBLIC_PYTHON = """
aiohttp black boto3 celery dask distributed django djangorestframework flask jinja2 kombu luigi mypy pandas pytest
scikit-learn scrapy setuptools sphinx statsmodels tornado trio twisted werkzeug xarray
"""

HELDOUT_GO = (
    "golang-github-gdamore-tcell golang-github-go-chi-chi golang-github-miekg-dns golang-github-urfave-cli-v2"
)
HELDOUT_SCRIPT = "node-express node-graphql node-winston node-xterm"
TUNING_GO = "golang-github-gorilla-websocket golang-github-spf13-viper"
TUNING_SCRIPT = "node-commander node-parse5"
# BSD, MIT, ISC or Apache-2.0 by their copyright files. The Go and TypeScript compilers' own libraries are included.
PUBLIC_GO = """
age caddy chasquid containerd delve docker.io etcd fzf gh golang-1.19 golang-entgo-ent golang-ginkgo
golang-github-alecthomas-chroma-v2 golang-github-antonmedv-expr golang-github-btcsuite-btcd-btcec
golang-github-charmbracelet-bubbletea golang-github-cilium-ebpf golang-github-cloudflare-cfssl
golang-github-containers-buildah golang-github-containers-common golang-github-containers-image
golang-github-containers-storage golang-github-dop251-goja golang-github-evanw-esbuild
golang-github-gin-gonic-gin golang-github-go-git-go-git golang-github-go-kit-kit
golang-github-go-openapi-runtime golang-github-gocql-gocql golang-github-google-go-github
golang-github-gophercloud-gophercloud golang-github-grpc-ecosystem-grpc-gateway golang-github-jackc-pgx
golang-github-jinzhu-gorm golang-github-klauspost-compress golang-github-labstack-echo
golang-github-lucas-clemente-quic-go golang-github-minio-minio-go golang-github-pelletier-go-toml.v2
golang-github-pion-webrtc.v3 golang-github-prometheus-client-golang golang-github-rogpeppe-go-internal
golang-github-shopify-sarama golang-github-spf13-cobra golang-github-tdewolff-minify
golang-github-traefik-yaegi golang-github-ugorji-go-codec golang-github-valyala-fasthttp
golang-github-vektah-gqlparser golang-github-vmware-govmomi golang-github-xanzy-go-gitlab
golang-github-xenolf-lego golang-github-yuin-goldmark golang-go.crypto golang-go.uber-zap golang-gocloud
golang-golang-x-exp golang-golang-x-image golang-golang-x-net golang-golang-x-text golang-golang-x-tools
golang-gomega golang-gonum-v1-plot golang-google-cloud golang-google-grpc golang-google-protobuf
golang-gvisor-gvisor golang-honnef-go-tools golang-mongodb-mongo-driver golang-opentelemetry-otel
golang-testify hugo influxdb kubernetes libpod micro nats-server prometheus rclone restic runc skopeo
victoriametrics yq
"""
PUBLIC_SCRIPT = """
acorn angular.js backbone codemirror-js d3 eslint grunt highlight.js jquery jqueryui jupyter-notebook
jupyterhub leaflet lumino mathjax node-ajv node-async node-ava node-axios node-babel7 node-bn.js
node-browserify node-bunyan node-chai node-chart.js node-cheerio node-clean-css node-core-js node-css-loader
node-css-tree node-d3-array node-d3-force node-d3-geo node-d3-hierarchy node-d3-shape node-dompurify
node-elliptic node-enhanced-resolve node-enquirer node-escodegen node-espree node-formidable node-glob
node-got node-gulp node-handlebars node-htmlparser2 node-i18next node-iconv-lite node-immutable node-inquirer node-jest
node-jose node-js-yaml node-jsdom node-katex node-knockout node-lodash node-markdown-it node-marked
node-mocha node-moment node-mongodb node-mqtt node-mysql node-n3 node-nock node-nodemailer node-popper2
node-postcss node-preact node-prompts node-prosemirror-model node-ramda node-react node-recast node-redis
node-redux node-regenerator node-request node-rollup node-rx node-semver node-send node-sinclair-typebox
node-sinon node-stylus node-superagent node-tape node-tar node-terser node-ts-jest node-ts-loader
node-typescript node-undici node-uuid node-webpack node-yaml node-yargs node-yarnpkg node-zrender nodejs
openlayers pdf.js three.js ts-node twitter-bootstrap4 underscore vega.js vue-router.js vue.js
"""


def _debian(names: str, role: Role, languages: frozenset[str]) -> tuple[Source, ...]:
    """Packages whose copyright file must name a permissive licence if they are used for training."""
    return tuple(
        Source(name=n, kind="debian", role=role, languages=languages, licensed=role == "public")
        for n in names.split()
    )


SOURCES: tuple[Source, ...] = (
    *(Source(name=n, kind="debian", role="heldout") for n in HELDOUT_JAVA.split()),
    *(Source(name=n, kind="wheel", role="heldout-python") for n in HELDOUT_PYTHON.split()),
    *(Source(name=n, kind="debian", role="tuning") for n in TUNING_JAVA.split()),
    *(Source(name=n, kind="wheel", role="tuning") for n in TUNING_PYTHON.split()),
    *(Source(name=n, kind="debian", role="members") for n in MEMBERS_JAVA.split()),
    *(Source(name=n, kind="installed", role="members") for n in MEMBERS_PYTHON.split()),
    *(Source(name=one.name, kind="wheel", role="field", pinned=one) for one in FIELD),
    *(Source(name=one.name, kind="wheel", role="field-tuning", pinned=one) for one in PROXIES),
    *(Source(name=n, kind="debian", role="public") for n in PUBLIC_JAVA.split()),
    Source(name="python-standard-library", kind="standard-library", role="public"),
    *(Source(name=n, kind="wheel", role="public") for n in PUBLIC_PYTHON.split()),
    *_debian(HELDOUT_GO, "heldout-go", GO),
    *_debian(HELDOUT_SCRIPT, "heldout-typescript", SCRIPT),
    *_debian(TUNING_GO, "tuning-base", GO),
    *_debian(TUNING_SCRIPT, "tuning-base", SCRIPT),
    *_debian(PUBLIC_GO, "public", GO),
    *_debian(PUBLIC_SCRIPT, "public", SCRIPT),
)

# About 35 MB of Java: the part that continuous integration fetches.
SMALL = """
commons-csv jsoup zookeeper libcommons-lang3-java libcommons-collections4-java commons-io commons-text picocli attrs
libgoogle-gson-java starlette aodh apache-airflow-providers-ssh snakeyaml jcommander jackson-core libjoda-time-java
commons-math3 guice testng python-standard-library golang-github-go-chi-chi node-express node-commander
golang-go.uber-zap node-async
"""


def known_role(role: str) -> Role:
    """The role of that name. Raises UsageError for one that does not exist."""
    for name in ROLES:
        if name == role:
            return name
    raise UsageError(f"there is no corpus named {role!r}", hint=f"choose one of: {', '.join(ROLES)}")


def sources_of(role: str, *, small: bool = False) -> tuple[Source, ...]:
    """The projects of one role, in their fixed order. Raises UsageError for a role that does not exist."""
    known = known_role(role)
    return tuple(s for s in SOURCES if s.role == known and (not small or s.name in SMALL.split()))
