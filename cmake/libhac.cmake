# SPDX-License-Identifier: MIT
# The library: compiled once, linked as the shared library that users get and
# as a static one through which the tests reach its internals.
file(GLOB HAC_SOURCES CONFIGURE_DEPENDS
	${PROJECT_SOURCE_DIR}/libhac/src/*.c ${PROJECT_SOURCE_DIR}/libhac/src/engines/*.c)
if(NOT HAC_SOURCES)
	message(FATAL_ERROR "no sources in libhac/src")
endif()

find_package(PkgConfig QUIET)
if(PKG_CONFIG_FOUND)
	pkg_check_modules(XXHASH QUIET libxxhash)
endif()
find_path(XXHASH_INCLUDE_DIR xxhash.h HINTS ${XXHASH_INCLUDE_DIRS} REQUIRED)
find_library(XXHASH_LIBRARY xxhash HINTS ${XXHASH_LIBRARY_DIRS})

# Zydis decodes the stores that the emulating engine carries out.
option(HAC_ZYDIS "Use Zydis to decode stores when it is there (x86-64 only)" ON)
if(HAC_ZYDIS AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
	find_path(ZYDIS_INCLUDE_DIR Zydis/Zydis.h)
	find_library(ZYDIS_LIBRARY Zydis)
endif()
if(ZYDIS_INCLUDE_DIR AND ZYDIS_LIBRARY)
	set(HAC_HAVE_ZYDIS ON)
else()
	set(HAC_HAVE_ZYDIS OFF)
endif()
message(STATUS "Zydis: ${HAC_HAVE_ZYDIS}")

# What compresses and encrypts frames. Whatever is missing, its codec or cipher
# answers that it is.
option(HAC_ZSTD "Compress frames with libzstd when it is there" ON)
option(HAC_LZ4 "Compress frames with lz4 when it is there" ON)
option(HAC_LIBCRYPTO "Encrypt frames with OpenSSL's libcrypto when it is there" ON)
function(hac_find name module header library)
	set(HAC_HAVE_${name} OFF PARENT_SCOPE)
	if(NOT HAC_${name})
		message(STATUS "${library}: left out")
		return()
	endif()
	if(PKG_CONFIG_FOUND)
		pkg_check_modules(${name} QUIET ${module})
	endif()
	find_path(${name}_INCLUDE_DIR ${header} HINTS ${${name}_INCLUDE_DIRS})
	find_library(${name}_LIBRARY ${library} HINTS ${${name}_LIBRARY_DIRS})
	if(${name}_INCLUDE_DIR AND ${name}_LIBRARY)
		set(HAC_HAVE_${name} ON PARENT_SCOPE)
		message(STATUS "${library}: ${${name}_LIBRARY}")
	else()
		message(STATUS "${library}: not found")
	endif()
endfunction()
hac_find(ZSTD libzstd zstd.h zstd)
hac_find(LZ4 liblz4 lz4.h lz4)
hac_find(LIBCRYPTO libcrypto openssl/evp.h crypto)

add_library(hac_objects OBJECT ${HAC_SOURCES})
target_include_directories(hac_objects
	PUBLIC ${PROJECT_SOURCE_DIR}/libhac/include ${PROJECT_SOURCE_DIR}/libhac/src)
target_include_directories(hac_objects SYSTEM PRIVATE ${XXHASH_INCLUDE_DIR})
# <arch-x86/hac.h>: one file for Xen and for those who call it.
set(HAC_XEN_INCLUDE_DIR ${PROJECT_SOURCE_DIR}/hypercall-patch/xen/include/public)
target_include_directories(hac_objects PRIVATE ${HAC_XEN_INCLUDE_DIR})
target_link_libraries(hac_objects PUBLIC hac_flags)

add_library(hac_needs INTERFACE)
target_link_libraries(hac_needs INTERFACE Threads::Threads ${CMAKE_DL_LIBS})
if(XXHASH_LIBRARY)
	target_link_libraries(hac_needs INTERFACE ${XXHASH_LIBRARY})
else()
	target_compile_definitions(hac_objects PRIVATE XXH_INLINE_ALL)
endif()
if(HAC_HAVE_ZYDIS)
	target_compile_definitions(hac_objects PUBLIC HAVE_ZYDIS=1)
	target_include_directories(hac_objects SYSTEM PRIVATE ${ZYDIS_INCLUDE_DIR})
	target_link_libraries(hac_needs INTERFACE ${ZYDIS_LIBRARY})
endif()

foreach(name ZSTD LZ4 LIBCRYPTO)
	if(HAC_HAVE_${name})
		target_compile_definitions(hac_objects PUBLIC HAVE_${name}=1)
		target_include_directories(hac_objects SYSTEM PRIVATE ${${name}_INCLUDE_DIR})
		target_link_libraries(hac_needs INTERFACE ${${name}_LIBRARY})
	endif()
endforeach()

add_library(hac SHARED $<TARGET_OBJECTS:hac_objects>)
target_include_directories(hac INTERFACE ${PROJECT_SOURCE_DIR}/libhac/include)
target_link_libraries(hac PRIVATE hac_needs hac_flags)
set(HAC_MAP ${PROJECT_SOURCE_DIR}/libhac/hac.map)
set_target_properties(hac PROPERTIES SOVERSION 0 LINK_DEPENDS ${HAC_MAP})
# Bound at load time: a fault handler must not enter the dynamic linker.
target_link_options(hac PRIVATE
	LINKER:--version-script=${HAC_MAP} LINKER:-z,now LINKER:-z,relro LINKER:--as-needed)
if(NOT HAC_SANITIZE)
	target_link_options(hac PRIVATE LINKER:-z,defs)
endif()

add_library(hac_internal STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:hac_objects>)
target_include_directories(hac_internal INTERFACE
	${PROJECT_SOURCE_DIR}/libhac/include ${PROJECT_SOURCE_DIR}/libhac/src
	${HAC_XEN_INCLUDE_DIR})
target_compile_definitions(hac_internal INTERFACE
	$<TARGET_PROPERTY:hac_objects,INTERFACE_COMPILE_DEFINITIONS>)
target_link_libraries(hac_internal INTERFACE hac_needs)
