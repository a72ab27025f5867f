class Group:
    name: str
