"""What turns a scene into pictures: reference renderers in torch and the table of fast twins."""
