"""Pairs of releases of public Python packages, which show what developers changed.

The weights of the next edit are fitted on TUNING. HELDOUT is only for measuring; nothing is chosen on it. Licences are
permissive. Only the differences are read, and none of their text is kept.
"""

from __future__ import annotations

from sordino_client.laboratory.pretrain.field import pinned

TUNING = (
    pinned("""
docker       6.1.3     aecd2277b8bf8e506e484f6ab7aec39abe0038e29fa4a6d3ba86c3fe01844ed9
jsonschema   4.17.3    a870ad254da1a8ca84b6a2905cac29d265f805acc57af304784962a2aa6508f6
paramiko     2.12.0    b2df1a6325f6996ef55a8789d0462f5b502ea83b3c990cbb5bbe57345c6812c4
poetry-core  1.9.0     4e0c9c6ad8cf89956f03b308736d84ea6ddb44089d16f2adc94050108ec1f5a1
pygments     2.15.1    db2db3deb4b4179f399a09054b023b6a586b76499d36965813c71aa8ed7b5fd1
pymysql      1.0.3     89fc6ae41c0aeb6e1f7710cdd623702ea2c54d040565767a78b00a5ebb12f4e5
redis        4.6.0     e2b03db868160ee4591de3cb90d40ebb50a90dd302138775937f6a42b7ed183c
requests     2.28.2    64299f4909223da747622c030b781c0d7811e359c37124b4bd368fb8c6518baa
starlette    0.27.0    918416370e846586541235ccd38a474c08b80443ed31c578a418e2209b3eef91
urllib3      1.26.20   0ed14ccfbf1c30a9072c7ca157e4319b70d65f623e91e7b32fadb2853431016e
"""),
    pinned("""
docker       7.1.0     c96b93b7f0a746f9e77d325bcfb87422a3d8bd4f03136ae8a85b37f1898d5fc0
jsonschema   4.23.0    fbadb6f8b144a8f8cf9f0b89ba94501d143e50411a1278633f56a7acf7fd5566
paramiko     3.4.0     43f0b51115a896f9c00f59618023484cb3a14b98bbceab43394a39c6739b7ee7
poetry-core  2.0.0     1da7dd9279c5af8ed63f05c87a743dcadbf048dfe78f21c436710829cfff95fe
pygments     2.18.0    b8e6aca0523f3ab76fee51799c488e38782ac06eafcf95e7ba832985c8e7b13a
pymysql      1.1.1     4de15da4c61dc132f4fb9ab763063e693d521a80fd0e87943b9a453dd4c19d6c
redis        5.2.0     ae174f2bb3b1bf2b09d54bf3e51fbc1469cf6c10aa03e21141f51969801a7897
requests     2.32.3    70761cfe03c773ceb22aa2f671b4757976145175cdfca038c02654d061d6dcc6
starlette    0.41.0    a0193a3c413ebc9c78bff1c3546a45bb8c8bcb4a84cae8747d650a65bd37210a
urllib3      2.3.0     1cee9ad369867bfdbbb48b7dd50374c0967a0bb7710050facf0dd6911440e3df
"""),
)
HELDOUT = (
    pinned("""
botocore     1.29.165  6f35d59e230095aed7cd747604fe248fa384bebb7d09549077892f936a8ca3df
fabric       2.7.1     7610362318ef2d391cc65d4befb684393975d889ed5720f23499394ec0e136fa
google-auth  2.17.3    f586b274d3eb7bd932ea424b1c702a30e0393a2e2bc4ca3eae8263ffd8be229f
gunicorn     20.1.0    9dcc4547dbb1cb284accfb15ab5667a0e5d1881cc443e0677b4882a4067a807e
httpcore     0.16.3    da1fb708784a938aa084bde4feb8317056c55037247c787bd7e19eb2c2949dc0
keyring      23.13.1   771ed2a91909389ed6148631de678f82ddc73737d85a927f382a8a1b157898cd
nox          2023.4.22 0b1adc619c58ab4fa57d6ab2e7823fe47a32e70202f287d78474adcc7bda1891
tox          4.0.19    2a51d4fd98a93b24819abbe9327fd759d39da73fb13aec3da954e8cd11f902ff
twine        4.0.2     929bc3c280033347a00f847236564d1c52a3e61b1ac2516c97c48f3ceab756d8
uvicorn      0.20.0    c3ed1598a5668208723f2bb49336f4509424ad198d6ab2615b7783db58d919fd
virtualenv   20.17.1   ce3b1684d6e1a20a3e5ed36795a97dfc6af29bc3970ca8dab93e11ac6094b3c4
"""),
    pinned("""
botocore     1.35.70   ba8a4797cf7c5d9c237e67a62692f5146e895613fd3e6a43b00b66f3a8c7fc73
fabric       3.2.2     91c47c0be68b14936c88b34da8a1f55e5710fd28397dac5d4ff2e21558113a6f
google-auth  2.36.0    51a15d47028b66fd36e5c64a82d2d57480075bccc7da37cde257fc94177a61fb
gunicorn     23.0.0    ec400d38950de4dfd418cff8328b2c8faed0edb0d517d3394e457c317908ca4d
httpcore     1.0.7     a3fff8f43dc260d5bd363d9f9cf1830fa3a458b332856f34282de498ed420edd
keyring      25.5.0    e67f8ac32b04be4714b42fe84ce7dad9c40985b9ca827c592cc303e7c26d9741
nox          2024.10.9 1d36f309a0a2a853e9bccb76bbef6bb118ba92fa92674d15604ca99adeb29eab
tox          4.23.2    452bc32bb031f2282881a2118923176445bac783ab97c874b8770ab4c3b76c38
twine        6.0.1     9c6025b203b51521d53e200f4a08b116dee7500a38591668c6a6033117bdc218
uvicorn      0.34.0    023dc038422502fa28a09c7a30bf2b6991512da7dcdb8fd35fe57cfc154126f4
virtualenv   20.28.0   23eae1b4516ecd610481eda647f3a7c09aea295055337331bb4e6892ecce47b0
"""),
)
