"""Which public projects the base learns from, which play the members, and which nobody ever sees.

The roles never mix. `HELDOUT` and `HELDOUT_PYTHON` are for measuring only; `TUNING` is what weights, thresholds and
settings are fitted on, and nothing is reported on it; `MEMBERS` are the "proprietary" repositories of the federation
benchmark and the demo; `field` and `field-tuning` are projects of one field each, pinned by version and hash: on the
first a federation is measured, on the second its plans are searched (`field.py`); `PUBLIC` holds permissive licences
only (each file's own header is checked again, see `clean.py`). Names are Debian source packages, or Python
distributions whose wheels are read as zip archives (a wheel carries the same sources as the sdist, and reading one runs
no foreign build script).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sordino_client.pretrain.field import FIELD, PROXIES, Pinned
from sordino_privacy.errors import UsageError

Role = Literal["heldout", "heldout-python", "tuning", "members", "field", "field-tuning", "public"]
Kind = Literal["debian", "wheel", "standard-library", "installed"]

ROLES: tuple[Role, ...] = (
    "heldout",
    "heldout-python",
    "tuning",
    "members",
    "field",
    "field-tuning",
    "public",
)


def earlier_roles(role: Role) -> tuple[Role, ...]:
    """The roles that keep a document before `role` may: what is measured on must not be trained on.

    The field is measured against nothing but itself and what the base read, so it needs no other role to be there.
    """
    match role:
        case "field":
            return ()
        case "field-tuning":
            return ("field",)
        case "public":
            return ROLES[:-1]
        case _:
            return ROLES[: ROLES.index(role)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One project, by the name under which a package client installs it; of a wheel also the only one it may be."""

    name: str
    kind: Kind
    role: Role
    pinned: Pinned | None = None


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
# Python packages that the demo uses as members; read from this environment, and only to keep them out of `public`.
MEMBERS_PYTHON = "flwr fonttools matplotlib networkx numpy pip pydantic ray rich scipy sqlalchemy sympy torch"
# BSD, MIT or Apache-2.0, none of them a member's.
PUBLIC_PYTHON = """
aiohttp black boto3 celery dask distributed django djangorestframework flask jinja2 kombu luigi mypy pandas pytest
scikit-learn scrapy setuptools sphinx statsmodels tornado trio twisted werkzeug xarray
"""

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
)

# About 35 MB of Java: what continuous integration fetches.
SMALL = """
commons-csv jsoup zookeeper libcommons-lang3-java libcommons-collections4-java commons-io commons-text picocli attrs
libgoogle-gson-java starlette aodh apache-airflow-providers-ssh snakeyaml jcommander jackson-core libjoda-time-java
commons-math3 guice testng python-standard-library
"""


def sources(role: str, *, small: bool = False) -> tuple[Source, ...]:
    """The projects of one role, in their fixed order. Raises UsageError for a role that does not exist."""
    if role not in ROLES:
        raise UsageError(f"there is no corpus named {role!r}", hint=f"choose one of: {', '.join(ROLES)}")
    return tuple(s for s in SOURCES if s.role == role and (not small or s.name in SMALL.split()))
