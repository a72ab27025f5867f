"""A case that is held up by hand: Locust's web page with the accept queue in it.

Ansible alone touches hosts, so it goes on running: it applies a case, waits in the task that tells the page so, and
goes on when somebody wishes for another case or for the end (playbooks/tasks/hold.yml). The page is Locust's own
process, which tells Ansible what is wished for through a unix socket (session.py serves it, control.py calls it).
"""
