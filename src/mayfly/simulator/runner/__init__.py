"""The simulated runner: one workflow job of the simulated GitHub, then it exits.

It stands alone: the standard library and its own modules, any Python from 3.8 on, any directory.
A module that only a job needs is imported with the job, because an idle start should cost nothing.
"""
