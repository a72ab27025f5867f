"""What plugins, modules and tests use of Ansible, which has no types of its own to be checked by.

module_utils has the names of our own, as Ansible imports them: from all roles and plugins into one package.
"""
