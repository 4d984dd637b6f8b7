"""Messages of protobuf for which no package is installed, and reading that takes no field that there is not."""

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory


def classes(package, messages, *names):
    """The classes of some of the messages. Each message has its fields: number, name, `one` or `many`, and a type, which
    is another message if it begins with a capital."""
    file = descriptor_pb2.FileDescriptorProto(name=package + ".proto", package=package, syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in messages.items():
        made = file.message_type.add(name=name)
        for number, field, label, kind in fields:
            added = made.field.add(name=field, number=number, label={"one": 1, "many": 3}[label])
            if kind[0].isupper():
                added.type, added.type_name = kinds.TYPE_MESSAGE, ".%s.%s" % (package, kind)
            else:
                added.type = getattr(kinds, "TYPE_" + kind.upper())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName("%s.%s" % (package, name))) for name in names]


def read(kind, raw):
    """A message from its bytes. Raises ValueError, also for fields that it does not have."""
    try:
        read = kind.FromString(raw)
    except message.DecodeError as error:
        raise ValueError("decoding: %s" % error)
    size = read.ByteSize()
    read.DiscardUnknownFields()
    if read.ByteSize() != size:
        raise ValueError("fields that %s does not have" % kind.DESCRIPTOR.name)
    return read
