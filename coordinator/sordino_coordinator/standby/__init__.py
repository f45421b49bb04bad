"""A second machine that follows the coordinator and can take its place (docs/guides/standby.md).

tenancy    which machine is the coordinator, and what must be heard before the first round after a takeover
copying    what the coordinator gives to who follows it
following  what the second machine keeps of it
takeover   the step from one to the other
commands   `sordino coordinator follow` and `takeover`
"""
