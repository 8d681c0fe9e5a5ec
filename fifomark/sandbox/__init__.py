"""enter(policy): Landlock, seccomp, no new privileges. Irrevocable, inherited, and ignorant of torch and of submissions.

Standard library only, the few system calls themselves: the processes that lock themselves down run without site-packages.
"""
