"""The projects of one field, pinned by name, version and SHA-256, so that everybody can repeat a figure on the same
bytes.

FIELD are the services of OpenStack (Apache-2.0). Each is the project of a separate team, and all use common libraries
that the public base has never read. MEMBERS of them train together; NEWCOMERS never take part and represent those who
join later. PROXIES are of another field, Apache Airflow's providers (Apache-2.0). Plans are searched only on them, so
no figure is tuned on the projects that it measures.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """One wheel on the package index: `sha256` in hex, of the whole file."""

    name: str
    version: str
    sha256: str


def pinned(table: str, prefix: str = "") -> tuple[Pinned, ...]:
    """Rows of name, version and SHA-256, one wheel each."""
    rows = (line.split() for line in table.strip().splitlines())
    return tuple(Pinned(name=prefix + name, version=version, sha256=digest) for name, version, digest in rows)


# Train together.
_MEMBERS = """
barbican         23.0.0 69c0fac46b105621302f4dacb1f8344dda08672bc273412b5c08dc17feb9a7e0
ceilometer       27.0.0 33573e3ed6e0c76909e18d98f011d732b94830e54a2850f501b9186f57dd567f
cinder           29.0.0 da8b1441740fb2dcfd76138607c6a96fc14d2548826741a6246bbd0d73f88860
cloudkitty       25.0.0 7ed3e5ce3e990fad885c7402eb6ac10c81e0c162354b5ace7fa0c2ce9e217b0f
freezer          19.0.0 060dd8f0e9d6cc3d223614b3336eed33cd39411fd538f007e4a8f40e196e907f
ironic           39.0.0 99250b7ec5bc4736279984652acdf51e5af99a6e5ffd8f06d51820990639f4cb
keystone         30.0.0 d0fa097278b1c1eda5b2c727766322a6a8afac0ed848d3104253855d4d483515
manila           23.0.1 3237549ee1dc3fc0846190db6e657a9cc4e56f220c95baa9f48cbd1c550536c6
mistral          23.0.0 6cd92af6e0b5850a794db65784fa340ce174fdba9227f67707fa8b8c36c35f1c
nova             34.0.0 8b46997836961762608e6e46e6d4945325d8a1fb8004e79e552e55839061f10c
openstack-cyborg 17.0.0 7f5509f936821d7432fbdf9fb788e4f3712fdb2b7a707eff4c39047c28e8115e
openstack-heat   27.0.1 6eb3e0e15da4e86a3f3c21543efcf65c5848412eb1864423ce4cff56c435897f
python-watcher   17.0.0 60c5e9ec218687f8642690f189b0abc65ca9604e22b0555ce651331f7a93686b
sahara           19.0.0 bdc7a0206312d08cf278d9d91020da3362ae36a4f9541e1bb22ef7d74fb3fb12
senlin           16.0.0 df592607f426c5f68753587069bf1c9e863657c0baa3fb5ddd460e7eb15dc985
solum            15.0.0 54a57cd1cd3dd12324b13f121feaa45423289503634fbc504c5c3bb7c60b820b
tacker           16.0.0 6550cd094e9b8e0a722e9c88c1ba6c6160c2bd09b2b76ce8acfaaa5d942f89dd
zun              18.0.0 a0d74a230096edd8f6492fed80435532eac0f459a9e090d19ae32a66acd05fa1
"""

# Never take part.
_NEWCOMERS = """
aodh                23.0.0 225663eff53f6b62ad8d4e72d8573de0274df84f2f9ac5fd3f1973e58d138898
blazar              18.0.0 cf98341ddc09a6fbab46943e726f3291ab55bf33127b2d6ebaec73f94456e4d5
designate           23.0.0 5df2306b4104fcf1f957d6d2ba4f9d5f9e6c18222b39fef9118a020e86417765
glance              33.0.0 680091845b2fb8e395926a6760f82b569facb6fd0521a0cfaa0fa2bc014d3701
magnum              23.0.0 e85214e082fdca95463a92721a5c153786bf2fe6e6926b397c12d1a39c910bfd
masakari            22.0.0 cdf59ed7243a94df21b89178b66e60fda56dc7c0ac86874612ab0908b4035f3e
neutron             29.0.0 6e998e2e55d233ff757f3ae1d53dd8dfd2cb455a01868e494c22fd6b8b0aba36
octavia             19.0.0 63e1396b940cab6d9e0fd8d3907bc74886a0e1cf77547cc4d8c7da5987fc961c
openstack-placement 16.0.0 3286f433f9c2aa365de847539a60ce99cd07fedc1cd782ffa4b2bcdc5eb30b55
trove               26.0.0 a85257330313ad2e373bea6eef7eba6e9b1d3e9718fb5da3468b8cbcd05ddaea
vitrage             15.0.1 f1569341b8060c2395d15ae1ea28f7bb3c9ecaa35b260fa1d9dc9c71a23c52f0
zaqar               23.0.1 24f7a7ec91e1d29f21eba9ec5fb3c5faa9ab7da413fdfd855a56434239b1af24
"""

# Each name without the prefix that all share.
_PROXIES = """
airbyte         6.2.0   74a1465918d2e42ee4cecff07fe73707a153fb06087336f3c59dbaa380984e83
alibaba         3.5.2   d4871b75494579de6407699b64a803b1d9f6e52805244c46db9abd051fd4aca4
amazon          9.39.0  7acf1c08b6dba8e879a7b9d8a280397796aa492a8d3af6b1096fcb631fca0754
apache-beam     6.3.1   dc089b61adef69341bab3349a763d98414362021b6a3588b4b6c0dd7fbdc8e2f
apache-druid    4.6.1   a2c45d950b3bad0bf72fe470ccc21b0087ae42a16a55b90c65cca0adcd460d17
apache-hive     9.7.1   a9d43fcb5865f614c98ea553f065d635835fd5ab32e5e0ddd946673084172970
apache-kafka    2.1.0   771b1b3751a1c82cbeb3fc39358f4ad59406f481213638ca8d963018571db895
apache-livy     4.6.4   be1e0fde1848dfdbc198cedddffa0d6295d5ce8394d857560b647044f8842c26
apache-spark    6.3.4   ee20e90549844c0c734c36420c426ed9ee7c259df60625b34435123727c99175
celery          3.26.0  0359a6b3f62aa8d950ebec9583af6de8a79322c9ee33a14823087cafcb2af933
cncf-kubernetes 10.25.0 6644520fcfec8b16c271602bfe0492848857261a48885e83ae4477e1da662d74
common-sql      2.4.0   1b0b1364d92df2390f5b4278dc570061f2f81b9c7ad61e0467c9f9cc3159781e
databricks      7.23.0  10a6d439e715f5da881cd5d3d110b5e7554ceb158d754ba1fe8d11a7ad404c89
datadog         3.11.1  26c29f952a4567f9464d5da83a7bd8715d958643f649df5e7a27eec29a5ca419
dbt-cloud       4.11.1  4a295918ed2890359df8e0ebb17eec592d1784ca4581ad65b0bd0dca49e03047
docker          4.6.1   567299633d59dc439392efe00987efcab210c414c7b8c46f2a5b339cf6282aac
edge3           5.1.0   4d0e3c7790aa919c33db93c85b9cd7a4142d5405ba9b5d1cbe7ee1f5600c7182
elasticsearch   6.10.0  0113d5df74cef418b729575628ffb22ec39f17412c9be191396c8cf2152ab145
fab             3.10.2  531ec2787089c318969e0f2a94afbdc268a67153610fff28504e3228088f88cd
google          22.8.0  13c4e79fdd47c64ec38905318feb27cdda0a648828f28222606d6f9de5da8342
hashicorp       4.8.4   47d78b94788580fcc99129839161f6d41a7e5f828f4bf389972caa7b83e790fa
informatica     0.2.2   7406d0f6b3fadd348109894652a634e16d4829bd2ce2f77ae36912315b3a68e9
jenkins         4.2.7   16b7a10e710e445a480c5bb53c801cbaaac1362fbcebb9afee79af11d9c240ee
keycloak        0.11.2  5329e9100ee9e1c57c5cca1c9c9e1c7cdb3c1b5d879576108ef33bda29010fda
microsoft-azure 15.2.1  8df06bf4a4a507b520514322c0ea6f3965b5b3f5117f3b30fbdf24e26db6f51a
mongo           5.5.1   0418ae95bf69857ca55afd258179868bba8af4114c02abfaa5d7ae3d15ef0551
mysql           6.7.1   6d109bb424b36e83d09427682b67ea127210340105038e5eae4b7f9080b932df
openai          2.2.0   365cd2577ed2d7bd293f61d887f7c16166330b58bc79739679b8170d12c0371d
openlineage     2.20.3  f5e14bd69060ba5012e0ffe09764d97da887572ea6dd9755e579244648c26528
opensearch      1.15.0  1a897239acc279ac1541d2bbe4f2ff0d2743c0b123d49a631f2e7dece2a0f3ec
oracle          4.7.1   285d082d3eb0a654feefc55308ebc80af7b3bee391b39670f03b099a0b9e3e36
postgres        7.1.1   090cc1674f04205179737645a7054ec887d4f2adb02a1d8b7f8fb86a263f17be
salesforce      5.15.1  467a46ae5ebae90b951087274498ecee691d7ce84375a3adaa167ab73f093bad
sftp            7.0.0   b2ee5da8b2f8343ccc4497bd8ce54ad18df278d9c81defc885880c7fd2c7b539
slack           9.11.1  5d2996ee8fab4597ff5bb3a7c47d383d9d912fb12ca723b57e6a66af0907b253
snowflake       6.20.0  400f17b268d19bb1a8a8eb539c1c8511ef537626c33fccf1d635cb817a56b5f0
ssh             7.0.1   42c713da4b154ba2ea40bc7a82bb809fd5cf4340ffd131b1ffa9c28e11396c51
standard        1.21.0  12969f10b7735f46dfa1d4f48675ca19dce46bbaa3a68d42c0fdb94eca4cff25
tableau         5.7.1   e83e7bdd385317b475d8bfa326ac532228d2e7915d58376b577f8f10e47d34d0
teradata        3.7.1   6038567e867ae18d4ed6437d98c1b6e0df84b6931610b87d60ec822f4e7bab64
trino           6.7.1   b3a32f84dd64703a8b40e7b16f1ecd5ea3dddd68e613e516f48e6bab7a0b353c
yandex          4.6.1   4f0397105864761a42458b3865ee9582611b9b12a653d12551b17bd0252d088c
ydb             2.6.1   4b7dae5c2251dbdcc76a5d99386fac8549af94b564d49ae40d821b76e728d5c7
"""

PROXY_PREFIX = "apache-airflow-providers-"
MEMBERS, NEWCOMERS = pinned(_MEMBERS), pinned(_NEWCOMERS)
FIELD = tuple(sorted((*MEMBERS, *NEWCOMERS), key=lambda one: one.name))
PROXIES = pinned(_PROXIES, PROXY_PREFIX)
