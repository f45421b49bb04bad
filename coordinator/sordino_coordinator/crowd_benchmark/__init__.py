"""`sordino bench crowd`: a thousand members on one coordinator, on one machine.

place      founds the federation: real keys, certificates and charter for everybody
members    a process of many light members: real link, mutual TLS, real protocol sessions, no corpus and no training
course     one federation driven through its rounds: dropouts at each phase, a storm of reconnections, silence
command    the command and its figures

The coordinator is `sordino coordinator up`, untouched. A member does what the protocol asks; what it does not do is
train: its update is a vector that was made before, so that what is measured is the federation and not the model.
"""
