"""A round at a member, in the order in which data goes.

addressee      which member a message is for
app            the Flower app: one function for each phase of the protocol
readiness      before a round is offered: would this member take part? (base_seen: is the base still the one?)
epochs         which new epochs of the charter are taken unasked
participation  whether the member's owner wants this round
agreement      what the member agrees to: decided from the proposal, and nothing is changed
adoption       the one step that keeps epochs and releases (serving: the model for the completion server)
contribution   one charge, one private update, made once
folder         the files of one round
heads          the head of the ledger, signed on its way out and believed on its way back
result         the release, checked and kept
history        what a coordinator that lost its history is told
refusal        the one word by which a member refuses

member         the state that all of these work on
"""
