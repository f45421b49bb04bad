"""`sordino bench poisoning`: what one malicious member of a federation achieves, round by round, against each defence.

profile      sizes and plan of a run
attack       the attacker's update: a backdoor, trained without noise and as long as a defence allows
federation   the honest members' training (the product's engine and quantiser), the sum, the release
commands     the command
"""
