/* SPDX-License-Identifier: MIT */
/*
 * The short way through a transaction: nobody else wants the context, nothing
 * is nested, nothing fails. Everything else is transaction.py's, which these
 * types call when they meet it. In C for two reasons: a transaction costs a
 * fraction of what the same steps cost in Python, and no signal handler (so no
 * KeyboardInterrupt) runs between taking the token and beginning, or between
 * ending and giving it back.
 *
 * _build.py puts this file into the source of pyhac._ffi; _native.py loads it
 * as the module pyhac._fast from there. All of it runs with the GIL held, but
 * for the calls of libhac; that orders the accesses to the fields.
 */
#include <structmember.h>

#define IDLE (-1LL)

enum state { STATE_NEW, STATE_OPEN, STATE_ENDED, STATE_ABORTED, STATE_IN_DOUBT };

/* Serial numbers of transactions are unique in the process, so that a flow
 * that remembers an old one is never taken for the owner of another. */
static long long last_serial;

/* One opening of a context: the token, who has it, and what it is for. */
struct gate {
	PyObject_HEAD hac *handle; /* NULL: not opened, nothing begins */
	struct hac_delta delta;    /* of the last end; lent */
	long long serial;          /* of the open transaction, or IDLE */
	long long count;           /* of the last transaction begun or tried */
	PyObject *inside;          /* ContextVar: the serial a flow is inside of */
	PyObject *open;            /* the open transaction, or NULL */
	unsigned long owner;       /* the thread that began it, or 0 */
	char taken;                /* the token is with somebody */
	char after;                /* ends are followed by Transaction._after_end() */
	PyObject *waiters;         /* a deque: who waits for the token */
	PyObject *wake;            /* called when it is back and somebody waits */
	PyObject *kind;            /* the class of transactions */
};

/* What C sees of a Transaction. */
struct block {
	PyObject_HEAD struct gate *gate;
	PyObject *context;
	PyObject *level; /* a Level, or None */
	long long serial;
	long long epoch;
	int state;
	char odd; /* joined, doomed, with callbacks, ...: see transaction.py */
};

static PyTypeObject *gate_type, *block_type;

/* ------------------------------------------------------------------ gate -- */

static int gate_init(struct gate *self, PyObject *args, PyObject *kwargs)
{
	PyObject *inside, *waiters, *wake, *kind;
	unsigned long long handle;

	if (kwargs && PyDict_GET_SIZE(kwargs)) {
		PyErr_SetString(PyExc_TypeError, "Gate() takes no keywords");
		return -1;
	}
	if (!PyArg_ParseTuple(args, "KOOOO", &handle, &inside, &waiters, &wake, &kind))
		return -1;
	if (!PyContextVar_CheckExact(inside) || !PyType_Check(kind) ||
	    !PyType_IsSubtype((PyTypeObject *)kind, block_type)) {
		PyErr_SetString(PyExc_TypeError, "Gate(handle, ContextVar, deque, wake, class)");
		return -1;
	}
	self->handle = (hac *)(uintptr_t)handle;
	self->delta.size = sizeof(self->delta);
	self->serial = IDLE;
	Py_XSETREF(self->inside, Py_NewRef(inside));
	Py_XSETREF(self->waiters, Py_NewRef(waiters));
	Py_XSETREF(self->wake, Py_NewRef(wake));
	Py_XSETREF(self->kind, Py_NewRef(kind));
	return 0;
}

static int gate_traverse(struct gate *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->inside);
	Py_VISIT(self->open);
	Py_VISIT(self->waiters);
	Py_VISIT(self->wake);
	Py_VISIT(self->kind);
	return 0;
}

static int gate_clear(struct gate *self)
{
	Py_CLEAR(self->inside);
	Py_CLEAR(self->open);
	Py_CLEAR(self->waiters);
	Py_CLEAR(self->wake);
	Py_CLEAR(self->kind);
	return 0;
}

static void gate_dealloc(struct gate *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	gate_clear(self);
	type->tp_free(self);
	Py_DECREF(type);
}

static int somebody_waits(struct gate *gate)
{
	Py_ssize_t size = gate->waiters ? PyObject_Size(gate->waiters) : 0;

	return size < 0 ? -1 : size > 0;
}

/* The token is back. 0, or -1 with an exception of wake(). */
static int give_back(struct gate *gate)
{
	PyObject *result;

	gate->owner = 0;
	gate->taken = 0;
	Py_CLEAR(gate->open);
	switch (somebody_waits(gate)) {
	case 0:
		return 0;
	case -1:
		return -1;
	}
	result = PyObject_CallNoArgs(gate->wake);
	Py_XDECREF(result);
	return result ? 0 : -1;
}

static PyObject *gate_take(struct gate *self, PyObject *unused)
{
	(void)unused;
	if (self->taken)
		Py_RETURN_FALSE;
	self->taken = 1;
	Py_RETURN_TRUE;
}

static PyObject *gate_release(struct gate *self, PyObject *unused)
{
	(void)unused;
	if (give_back(self))
		return NULL;
	Py_RETURN_NONE;
}

/* Is the caller's flow inside the open transaction? 1, 0, or -1. */
static int is_inside(struct gate *gate)
{
	PyObject *value;
	long long serial;

	if (gate->serial == IDLE || !gate->inside)
		return 0;
	if (PyContextVar_Get(gate->inside, NULL, &value))
		return -1;
	if (!value)
		return 0;
	serial = PyLong_AsLongLong(value);
	Py_DECREF(value);
	if (serial == -1 && PyErr_Occurred())
		return -1;
	return serial == gate->serial;
}

static PyObject *gate_is_inside(struct gate *self, PyObject *unused)
{
	int inside = is_inside(self);

	(void)unused;
	return inside < 0 ? NULL : PyBool_FromLong(inside);
}

/* Is the open transaction one that nobody can leave any more, since only the
 * gate still refers to it? Then forget it, for the caller to abort; the token
 * stays with it, so that only one caller is told. */
static PyObject *gate_disown(struct gate *self, PyObject *unused)
{
	(void)unused;
	if (!self->open || Py_REFCNT(self->open) > 1)
		Py_RETURN_FALSE;
	self->serial = IDLE;
	Py_CLEAR(self->open);
	Py_RETURN_TRUE;
}

/* Deltas that were lent are no longer valid. */
static PyObject *gate_expire(struct gate *self, PyObject *unused)
{
	(void)unused;
	self->count = ++last_serial;
	Py_RETURN_NONE;
}

static PyObject *gate_block(struct gate *self, PyObject *context)
{
	PyTypeObject *kind = (PyTypeObject *)self->kind;
	struct block *block;

	if (!kind) {
		PyErr_SetString(PyExc_TypeError, "the gate was not initialised");
		return NULL;
	}
	block = (struct block *)kind->tp_alloc(kind, 0);
	if (!block)
		return NULL;
	block->gate = (struct gate *)Py_NewRef((PyObject *)self);
	block->context = Py_NewRef(context);
	block->level = Py_NewRef(Py_None);
	return (PyObject *)block;
}

static PyObject *gate_delta(struct gate *self, void *unused)
{
	(void)unused;
	return PyLong_FromVoidPtr(&self->delta);
}

static PyMemberDef gate_members[] = {
	{ "serial", T_LONGLONG, offsetof(struct gate, serial), 0, NULL },
	{ "count", T_LONGLONG, offsetof(struct gate, count), READONLY, NULL },
	{ "open", T_OBJECT, offsetof(struct gate, open), READONLY, NULL },
	{ "owner", T_ULONG, offsetof(struct gate, owner), 0, NULL },
	{ "taken", T_BOOL, offsetof(struct gate, taken), READONLY, NULL },
	{ "after", T_BOOL, offsetof(struct gate, after), 0, NULL },
	{ NULL },
};

static PyGetSetDef gate_getset[] = {
	{ "delta", (getter)gate_delta, NULL, "address of its struct hac_delta", NULL },
	{ NULL },
};

static PyMethodDef gate_methods[] = {
	{ "take", (PyCFunction)gate_take, METH_NOARGS,
	  "Take the token; False if somebody has it." },
	{ "release", (PyCFunction)gate_release, METH_NOARGS,
	  "Give the token back, and let one waiter try." },
	{ "is_inside", (PyCFunction)gate_is_inside, METH_NOARGS,
	  "Is this flow inside the open transaction?" },
	{ "disown", (PyCFunction)gate_disown, METH_NOARGS,
	  "Forget an open transaction that was dropped; False if there is none." },
	{ "expire", (PyCFunction)gate_expire, METH_NOARGS, "Take lent deltas back." },
	{ "block", (PyCFunction)gate_block, METH_O, "A new transaction of the context." },
	{ NULL },
};

static PyType_Slot gate_slots[] = {
	{ Py_tp_init, gate_init },
	{ Py_tp_new, PyType_GenericNew },
	{ Py_tp_traverse, gate_traverse },
	{ Py_tp_clear, gate_clear },
	{ Py_tp_dealloc, gate_dealloc },
	{ Py_tp_members, gate_members },
	{ Py_tp_getset, gate_getset },
	{ Py_tp_methods, gate_methods },
	{ Py_tp_doc, "One opening of a context: a token, and who has it." },
	{ 0, NULL },
};

static PyType_Spec gate_spec = {
	.name = "pyhac._fast.Gate",
	.basicsize = sizeof(struct gate),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.slots = gate_slots,
};

/* ----------------------------------------------------------------- block -- */

static int block_traverse(struct block *self, visitproc visit, void *arg)
{
	Py_VISIT(Py_TYPE(self));
	Py_VISIT(self->gate);
	Py_VISIT(self->context);
	Py_VISIT(self->level);
	return 0;
}

static int block_clear(struct block *self)
{
	Py_CLEAR(self->context);
	Py_CLEAR(self->level);
	return 0; /* the gate stays: methods count on it */
}

static void block_dealloc(struct block *self)
{
	PyTypeObject *type = Py_TYPE(self);

	PyObject_GC_UnTrack(self);
	block_clear(self);
	Py_CLEAR(self->gate);
	type->tp_free(self);
	Py_DECREF(type);
}

static PyObject *call_with_code(struct block *self, const char *method, long long code)
{
	return PyObject_CallMethod((PyObject *)self, method, "L", code);
}

/* The token is ours: begin. 0, or -1 with an exception and the token back. */
static int begin(struct block *self)
{
	struct gate *gate = self->gate;
	long long serial = ++last_serial;
	PyObject *number, *token = NULL, *result;
	int code;

	gate->count = serial; /* before libhac takes lent deltas back */
	Py_BEGIN_ALLOW_THREADS code = hac_begin(gate->handle);
	Py_END_ALLOW_THREADS if (code < 0)
	{
		/* Raises; first of all, since the detail lasts only so long. */
		result = call_with_code(self, "_begin_failed", code);
		if (result) {
			Py_DECREF(result);
			PyErr_SetString(PyExc_SystemError, "_begin_failed() did not raise");
		}
		goto failed;
	}
	number = PyLong_FromLongLong(serial);
	if (number) {
		token = PyContextVar_Set(gate->inside, number);
		Py_DECREF(number);
	}
	if (!token) {
		hac_abort(gate->handle);
		goto failed;
	}
	Py_DECREF(token); /* nobody resets it: an old number is as good as none */
	Py_XSETREF(gate->open, Py_NewRef((PyObject *)self));
	gate->owner = PyThread_get_thread_ident();
	gate->serial = self->serial = serial;
	self->state = STATE_OPEN;
	return 0;
failed : {
	PyObject *kind, *value, *traceback;

	PyErr_Fetch(&kind, &value, &traceback);
	if (give_back(gate))
		PyErr_WriteUnraisable((PyObject *)self);
	PyErr_Restore(kind, value, traceback);
}
	return -1;
}

/* End: 0, or -errno with the transaction still there. The token stays. */
static long long finish(struct block *self)
{
	struct gate *gate = self->gate;
	uint64_t epoch = 0;
	int code;

	gate->serial = IDLE; /* from here on nobody joins */
	gate->delta.runs = NULL;
	gate->delta.bytes = NULL;
	Py_BEGIN_ALLOW_THREADS code = hac_prepare(gate->handle, &gate->delta);
	if (code >= 0)
		code = hac_finish(gate->handle, &epoch);
	Py_END_ALLOW_THREADS if (code < 0) return code;
	self->epoch = (long long)epoch;
	self->state = STATE_ENDED;
	return 0;
}

static PyObject *block_enter(struct block *self, PyObject *unused)
{
	struct gate *gate = self->gate;
	int inside;

	(void)unused;
	if (!gate || !gate->handle || self->state != STATE_NEW || gate->taken)
		goto slow;
	inside = is_inside(gate);
	if (!inside)
		inside = somebody_waits(gate);
	if (inside < 0)
		return NULL;
	if (inside)
		goto slow;
	gate->taken = 1;
	if (begin(self))
		return NULL;
	return Py_NewRef((PyObject *)self);
slow:
	return PyObject_CallMethod((PyObject *)self, "_enter", NULL);
}

static PyObject *block_exit(struct block *self, PyObject *const *args, Py_ssize_t count)
{
	struct gate *gate = self->gate;
	PyObject *failure = count == 3 ? args[1] : Py_None;
	long long code;

	if (count != 3) {
		PyErr_SetString(PyExc_TypeError, "__exit__() takes three arguments");
		return NULL;
	}
	if (failure == Py_None && args[0] != Py_None)
		failure = args[0]; /* called by hand, with a class only */
	if (failure != Py_None || !gate || self->odd || self->level != Py_None ||
	    self->state != STATE_OPEN || gate->serial != self->serial)
		return PyObject_CallMethod((PyObject *)self, "_exit", "O", failure);
	code = finish(self);
	if (code < 0)
		return call_with_code(self, "_finish_failed", code);
	if (give_back(gate))
		return NULL;
	if (gate->after)
		return PyObject_CallMethod((PyObject *)self, "_after_end", NULL);
	Py_RETURN_NONE;
}

static PyObject *block_try_begin(struct block *self, PyObject *unused)
{
	(void)unused;
	if (!self->gate || !self->gate->handle || self->state != STATE_NEW) {
		PyErr_SetString(PyExc_SystemError, "_try_begin() of nothing");
		return NULL;
	}
	if (self->gate->taken)
		Py_RETURN_FALSE;
	self->gate->taken = 1;
	if (begin(self))
		return NULL;
	Py_RETURN_TRUE;
}

static PyObject *block_finish(struct block *self, PyObject *unused)
{
	(void)unused;
	if (!self->gate || self->state != STATE_OPEN) {
		PyErr_SetString(PyExc_SystemError, "_finish() of nothing");
		return NULL;
	}
	return PyLong_FromLongLong(finish(self));
}

static PyMemberDef block_members[] = {
	{ "_gate", T_OBJECT, offsetof(struct block, gate), READONLY, NULL },
	{ "_context", T_OBJECT, offsetof(struct block, context), READONLY, NULL },
	{ "_level", T_OBJECT, offsetof(struct block, level), 0, NULL },
	{ "_serial", T_LONGLONG, offsetof(struct block, serial), READONLY, NULL },
	{ "_epoch", T_LONGLONG, offsetof(struct block, epoch), READONLY, NULL },
	{ "_state", T_INT, offsetof(struct block, state), 0, NULL },
	{ "_odd", T_BOOL, offsetof(struct block, odd), 0, NULL },
	{ NULL },
};

static PyMethodDef block_methods[] = {
	{ "__enter__", (PyCFunction)block_enter, METH_NOARGS, "Begin, or join." },
	{ "__exit__", (PyCFunction)(void (*)(void))block_exit, METH_FASTCALL, "End, or abort." },
	{ "_try_begin", (PyCFunction)block_try_begin, METH_NOARGS,
	  "Take the token and begin; False if somebody has it." },
	{ "_finish", (PyCFunction)block_finish, METH_NOARGS,
	  "End, keeping the token; 0 or -errno." },
	{ NULL },
};

static PyType_Slot block_slots[] = {
	{ Py_tp_traverse, block_traverse },
	{ Py_tp_clear, block_clear },
	{ Py_tp_dealloc, block_dealloc },
	{ Py_tp_members, block_members },
	{ Py_tp_methods, block_methods },
	{ Py_tp_doc, "The short way through a transaction." },
	{ 0, NULL },
};

static PyType_Spec block_spec = {
	.name = "pyhac._fast.Block",
	.basicsize = sizeof(struct block),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
		 Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.slots = block_slots,
};

/* ---------------------------------------------------------------- module -- */

static struct PyModuleDef fast_module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "pyhac._fast",
	.m_doc = "The short way through a transaction.",
	.m_size = -1,
};

PyMODINIT_FUNC PyInit__fast(void)
{
	PyObject *module = PyModule_Create(&fast_module);

	if (!module)
		return NULL;
	gate_type = (PyTypeObject *)PyType_FromSpec(&gate_spec);
	block_type = (PyTypeObject *)PyType_FromSpec(&block_spec);
	if (!gate_type || !block_type || PyModule_AddType(module, gate_type) ||
	    PyModule_AddType(module, block_type)) {
		Py_DECREF(module);
		return NULL;
	}
	return module;
}
