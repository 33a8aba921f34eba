"""`router policy`: policies for people, and the kernel rules that follow from them.

``command`` reads options and prints; ``client`` talks to a policy API; ``rules`` makes nftables rules from what a
running router decides by. Nothing here is part of a running router.
"""
