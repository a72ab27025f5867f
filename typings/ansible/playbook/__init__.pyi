class Playbook:
    _file_name: str
