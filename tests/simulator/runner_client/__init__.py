"""A runner at wire level, written from what is known of GitHub's protocol and from nothing else.

It shares no line with the simulator it is tried against, so that both can be wrong only apart.
"""
