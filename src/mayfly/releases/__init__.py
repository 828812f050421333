"""Releases of GitHub's runner on this machine: downloaded, checked, unpacked once, and kept new.

Nothing here asks GitHub: which release there is comes from the control plane, which has the key.
"""
