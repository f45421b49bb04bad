"""`sordino bench poisoning`: how far one lying member of a federation gets, round by round, under each defence.

profile      sizes and plan of a run
attack       the liar's update: a backdoor, trained without noise and made as long as a defence lets it be
federation   the honest members' training (the product's engine and quantiser), the sum, the release
commands     the command
"""
