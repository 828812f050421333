"""GitHub's own runner protocol, so that a runner nobody here wrote registers and takes a job.

Two generations of it are spoken: the *pipelines* service (v1), and the broker with the run service
(v2). Neither is documented by GitHub; what is known is read from the programs that speak it.
"""
