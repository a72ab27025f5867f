class Task:
    action: str

    def get_name(self) -> str: ...
